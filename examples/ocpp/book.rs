//! What the central system knows of a charge point: its session's state, which is committed with
//! every call. It reads no clock and sends nothing.

use std::collections::{BTreeMap, VecDeque};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::frame::{Call, CallError};

/// How many answers are remembered. A charge point has one call under way at a time, and sends that
/// one again.
const ANSWERS_MAX: usize = 16;

/// For how long an answer that tells the time may be given again.
const TIME_MS_MAX: u64 = 30_000;

/// How many transactions that are over are kept: by then, billing has them.
const FINISHED_MAX: usize = 32;

/// How often a charge point sends a heartbeat, in seconds.
const HEARTBEAT_SECONDS: u32 = 300;

/// All of it. A version of this program that knows more reads what an older one has written.
#[derive(Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Book {
    model: String,
    /// The status of each connector.
    connectors: BTreeMap<u32, String>,
    /// In the order in which they began.
    transactions: Vec<Transaction>,
    /// How many have begun.
    opened: u64,
    answers: VecDeque<Answered>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Transaction {
    id: u32,
    connector: u32,
    id_tag: String,
    meter_start: i64,
    started: String,
    /// How many meter values have come.
    readings: usize,
    stopped: Option<Stopped>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stopped {
    meter_stop: i64,
    at: String,
}

/// A call that was answered.
#[derive(Serialize, Deserialize)]
struct Answered {
    id: String,
    /// Of the call's text. An id alone is not enough: a charge point may begin with the same ids on
    /// each connection (OCPP-J 1.6, section 4.1.4).
    digest: u64,
    at_ms: u64,
    tells_time: bool,
    answer: String,
}

/// When a call is processed, and in which life of the session.
pub(crate) struct Moment {
    pub(crate) unix_ms: u64,
    /// The same, as OCPP writes it.
    pub(crate) time: String,
    pub(crate) incarnation: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BootNotification {
    charge_point_vendor: String,
    charge_point_model: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Authorize {
    id_tag: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StatusNotification {
    connector_id: u32,
    status: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StartTransaction {
    connector_id: u32,
    id_tag: String,
    meter_start: i64,
    timestamp: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MeterValues {
    transaction_id: Option<i64>,
    meter_value: Vec<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StopTransaction {
    transaction_id: i64,
    meter_stop: i64,
    timestamp: String,
}

impl Book {
    /// What was answered to this call, if it has come before.
    pub(crate) fn answered(&self, id: &str, text: &str, unix_ms: u64) -> Option<&str> {
        let digest = digest(text);
        let mut same = self.answers.iter();
        let same = same.find(|answered| answered.id == id && answered.digest == digest)?;
        let is_old = unix_ms.saturating_sub(same.at_ms) > TIME_MS_MAX;
        (!same.tells_time || !is_old).then_some(&same.answer)
    }

    /// Remembers what is answered to a call.
    pub(crate) fn remember(&mut self, call: &Call, text: &str, unix_ms: u64, answer: &str) {
        if self.answers.len() == ANSWERS_MAX {
            self.answers.pop_front();
        }
        self.answers.push_back(Answered {
            id: call.id.clone(),
            digest: digest(text),
            at_ms: unix_ms,
            tells_time: matches!(&*call.action, "BootNotification" | "Heartbeat"),
            answer: answer.to_owned(),
        });
    }

    /// Does what a call asks for. Where that is refused, nothing has changed.
    pub(crate) fn process(&mut self, call: &Call, now: &Moment) -> Result<Value, CallError> {
        match &*call.action {
            "BootNotification" => {
                let boot: BootNotification = payload(call)?;
                self.model = format!("{} {}", boot.charge_point_vendor, boot.charge_point_model);
                Ok(json!({
                    "status": "Accepted", "currentTime": now.time, "interval": HEARTBEAT_SECONDS,
                }))
            }
            "Heartbeat" => Ok(json!({ "currentTime": now.time })),
            "Authorize" => {
                let asked: Authorize = payload(call)?;
                Ok(json!({ "idTagInfo": tag_info(&asked.id_tag) }))
            }
            "StatusNotification" => {
                let told: StatusNotification = payload(call)?;
                self.connectors.insert(told.connector_id, told.status);
                Ok(json!({}))
            }
            "StartTransaction" => Ok(self.start(payload(call)?, now.incarnation)),
            "MeterValues" => {
                let read: MeterValues = payload(call)?;
                if let Some(transaction) = read.transaction_id.and_then(|id| self.find(id)) {
                    transaction.readings += read.meter_value.len();
                }
                Ok(json!({}))
            }
            "StopTransaction" => Ok(self.stop(payload(call)?)),
            _ => Err(CallError::NotImplemented),
        }
    }

    /// The id is a number of this charge point's: on all nodes and for ever, since the number of those
    /// before is committed with them, and a session that was lost begins with another incarnation.
    /// 31 bits are not enough to tell charge points apart, too: elsewhere, the key is both.
    fn start(&mut self, asked: StartTransaction, incarnation: u64) -> Value {
        self.opened += 1;
        let id = (incarnation % 2_147 * 1_000_000 + self.opened % 1_000_000) as u32;
        let info = tag_info(&asked.id_tag);
        self.transactions.push(Transaction {
            id,
            connector: asked.connector_id,
            id_tag: asked.id_tag,
            meter_start: asked.meter_start,
            started: asked.timestamp,
            readings: 0,
            stopped: None,
        });
        json!({ "transactionId": id, "idTagInfo": info })
    }

    /// A charge point is told that its transaction is over, also if it is not known here (OCPP 1.6,
    /// section 4.10).
    fn stop(&mut self, asked: StopTransaction) -> Value {
        if let Some(transaction) = self.find(asked.transaction_id)
            && transaction.stopped.is_none()
        {
            transaction.stopped = Some(Stopped {
                meter_stop: asked.meter_stop,
                at: asked.timestamp,
            });
        }
        let is_over = |transaction: &Transaction| transaction.stopped.is_some();
        let over = self.transactions.iter().filter(|it| is_over(it)).count();
        if over > FINISHED_MAX
            && let Some(oldest) = self.transactions.iter().position(is_over)
        {
            self.transactions.remove(oldest);
        }
        json!({})
    }

    fn find(&mut self, id: i64) -> Option<&mut Transaction> {
        let mut transactions = self.transactions.iter_mut();
        transactions.find(|transaction| i64::from(transaction.id) == id)
    }
}

/// Who may charge is decided here: everybody whose tag is one (OCPP 1.6, section 7.15).
fn tag_info(tag: &str) -> Value {
    let is_tag = (1..=20).contains(&tag.chars().count());
    json!({ "status": if is_tag { "Accepted" } else { "Invalid" } })
}

fn payload<T: DeserializeOwned>(call: &Call) -> Result<T, CallError> {
    T::deserialize(&call.payload).map_err(|_| CallError::FormationViolation)
}

/// FNV-1a: the same on every node, in every version of this program.
fn digest(text: &str) -> u64 {
    let start = 0xcbf2_9ce4_8422_2325_u64;
    let next = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    text.bytes().fold(start, next)
}
