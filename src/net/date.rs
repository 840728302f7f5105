//! The `Date` of answers (RFC 9110, section 6.6.1): the time of the turn in the form that HTTP has
//! for it. It is written once a second, and only if there is an answer.

use std::fmt::Write as _;

/// The `Date` of answers.
#[derive(Debug, Default)]
pub(super) struct Date {
    /// Seconds since the Unix epoch.
    now: u64,
    /// The second that `text` is of.
    written: Option<u64>,
    text: String,
}

impl Date {
    /// The time is this, in milliseconds since the Unix epoch.
    pub(super) fn set(&mut self, unix_ms: u64) {
        self.now = unix_ms / 1_000;
    }

    /// The time as an IMF-fixdate (RFC 9110, section 5.6.7).
    pub(super) fn text(&mut self) -> &str {
        if self.written.replace(self.now) != Some(self.now) {
            self.text.clear();
            write_fixdate(self.now, &mut self.text);
        }
        &self.text
    }
}

fn write_fixdate(unix_s: u64, text: &mut String) {
    let (days, second) = (unix_s / DAY_S, unix_s % DAY_S);
    let (year, month, day) = civil(days);
    let written = write!(
        text,
        "{}, {day:02} {} {year:04} {:02}:{:02}:{:02} GMT",
        // The epoch began on a Thursday.
        WEEKDAYS[((days + 4) % 7) as usize],
        MONTHS[month],
        second / 3_600,
        second / 60 % 60,
        second % 60,
    );
    debug_assert!(written.is_ok(), "a String takes everything");
}

const DAY_S: u64 = 24 * 60 * 60;
const WEEKDAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// Year, month (from 0) and day of a number of days since the Unix epoch, in the Gregorian calendar.
/// Years are counted from 1 March of the year 0, so that the leap day is the last one of a year, and
/// months have 153 days in each five of them.
fn civil(days: u64) -> (u64, usize, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let months = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * months + 2) / 5 + 1;
    let month = (months + 2) % 12;
    let year = era * 400 + year_of_era + u64::from(month < 2);
    (year, month as usize, day)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn text_at(unix_s: u64) -> String {
        let mut date = Date::default();
        date.set(unix_s * 1_000 + 999);
        date.text().to_owned()
    }

    #[test]
    fn dates_as_the_rfc_writes_them() {
        // The example of RFC 9110.
        assert_eq!(text_at(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(text_at(0), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(text_at(951_827_696), "Tue, 29 Feb 2000 12:34:56 GMT");
        assert_eq!(text_at(4_107_542_399), "Sun, 28 Feb 2100 23:59:59 GMT");
        assert!(text_at(u64::MAX / 1_000 - 1).ends_with(" GMT"));
    }

    #[test]
    fn days_as_another_calendar_counts_them() {
        for day in (0..200_000).step_by(13) {
            let text = text_at(day * DAY_S);
            let time = UNIX_EPOCH + Duration::from_secs(day * DAY_S);
            let expected = humantime::format_rfc3339_seconds(time).to_string();
            let (year, month, number) = civil(day);
            let ours = format!("{year:04}-{:02}-{number:02}T00:00:00Z", month + 1);
            assert_eq!(ours, expected);
            let weekday = WEEKDAYS.iter().position(|name| text.starts_with(name));
            assert_eq!(weekday, Some(((day + 4) % 7) as usize));
        }
    }

    #[test]
    fn it_goes_with_the_clock() {
        let mut date = Date::default();
        date.set(1_999);
        assert_eq!(date.text(), "Thu, 01 Jan 1970 00:00:01 GMT");
        date.set(2_000);
        assert_eq!(date.text(), "Thu, 01 Jan 1970 00:00:02 GMT");
        date.set(1_000);
        assert_eq!(date.text(), "Thu, 01 Jan 1970 00:00:01 GMT");
    }
}
