//! What only shows below the engine: how much of the sessions' states goes into one batch.

use super::*;
use crate::engine::mailbox::Mailbox;

#[test]
fn a_batch_ends_where_its_states_are_long() {
    const SESSIONS: u32 = 40;
    let mut sessions = Sessions::new(&Limits::default());
    let state = State::new(&vec![7; State::MAX]).unwrap();
    for slot in 0..SESSIONS {
        let conn = ConnId {
            slot,
            generation: 0,
        };
        let id = SessionId::parse(&format!("s{slot}")).unwrap();
        let (key, _) = sessions.open(id, conn, 1);
        let grant = Grant {
            epoch: 1,
            found: true,
            snapshot: Snapshot {
                state: state.clone(),
                ..Snapshot::counted(1)
            },
            mailbox: Mailbox::default(),
        };
        sessions.handle_claimed(key, grant).unwrap();
    }
    let most = BATCH_STATE_BYTES / State::MAX;
    sessions.refresh(0, usize::MAX, false);
    let mut saved = 0;
    while let Some(StoreCommand::Commit(batch)) = sessions.poll_store() {
        assert!(batch.len() <= most, "{} in one batch", batch.len());
        saved += batch.len();
    }
    assert_eq!(saved, SESSIONS as usize);
}
