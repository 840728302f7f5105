//! A shutdown's time line for a terminal of 80 columns, in characters that every font has.

use super::{Report, shown};

/// Cells of the time line.
const CELLS: u64 = 50;

/// A cell from empty to full, by eighths.
const EIGHTHS: [&str; 9] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉", "█"];

/// Sessions that are named one by one.
const UNSAVED_SHOWN: usize = 20;

pub(super) fn drawn(report: &Report) -> String {
    let span = report.span_ms();
    let mut lines = vec![report.headline(), String::new()];
    for bar in report.bars() {
        let drawn = blocks(bar.from, bar.lasted, span);
        let line = format!("  {:<10} {:>7} ms  {drawn}", bar.name, bar.lasted);
        lines.push(line.trim_end().to_owned());
    }
    let (width, last) = (CELLS as usize - 1, format!("{span} ms"));
    lines.extend([format!("{:24}0{last:>width$}", ""), String::new()]);
    for (count, meaning) in report.facts() {
        lines.push(format!("  {count:>9}  {meaning}"));
    }
    if let Some(waiting @ 1..) = report.spill_rows_waiting {
        lines.push(format!(
            "  {waiting:>9}  sessions wait in the spill from before"
        ));
    }
    for unsaved in report.unsaved.iter().take(UNSAVED_SHOWN) {
        let (session, count) = (shown(&unsaved.session), unsaved.count);
        lines.push(format!("  not saved: {session}, count {count}"));
    }
    let more = report.unsaved_len().saturating_sub(UNSAVED_SHOWN as u64);
    if more > 0 {
        lines.push(format!("  not saved: {more} more"));
    }
    if let Some(path) = &report.unsaved_file {
        lines.push(format!("  not saved: all are in {}", shown(path)));
    }
    lines.push(String::new());
    lines.join("\n")
}

/// A bar as long as the phase, from the cell in which it begins; whatever took time is to be seen.
fn blocks(from: u64, lasted: u64, span: u64) -> String {
    if lasted == 0 {
        return String::new();
    }
    let whole = u128::from(CELLS) * 8;
    let eighths = |ms: u64| u128::from(ms) * whole / u128::from(span);
    let begin = eighths(from).min(whole - 1);
    let end = eighths(from.saturating_add(lasted)).min(whole);
    let len = end.saturating_sub(begin).max(1) as usize;
    let (before, full, part) = ((begin / 8) as usize, len / 8, len % 8);
    format!("{:before$}{}{}", "", EIGHTHS[8].repeat(full), EIGHTHS[part])
}

#[cfg(test)]
mod tests {
    use super::super::tests::report;
    use super::*;

    #[test]
    fn the_drawing_of_a_shutdown() {
        let expected = "\
SIGTERM, 200 connections: gone after 763 ms, 1 session not saved

  delaying         0 ms
  notifying        2 ms  ▏
  draining       256 ms  ████████████████▊
  persisting       4 ms                  ▎
  closing        490 ms                   ████████████████████████████████▏
  sweeping        10 ms                                                   ▋
                        0                                           763 ms

        150  had the notice
        198  were drained in time
        190  sessions saved in the store
         10  sessions saved in the spill
        200  had their goodbye
        790  messages counted after a goodbye
        199  answered Close 1001
          1  were cut
  not saved: a\\u{1b}[2J<b>, count 7
";
        let drawn = drawn(&report());
        assert_eq!(drawn, expected, "\n{drawn}");
    }

    #[test]
    fn no_bar_leaves_the_line_and_none_is_lost() {
        for span in [1, 2, 49, 400, 763, u64::MAX] {
            for from in [0, 1, span / 2, span - 1, span] {
                for lasted in [1, span / 3 + 1, span] {
                    let cells = blocks(from, lasted, span).chars().count();
                    assert!(
                        (1..=CELLS as usize).contains(&cells),
                        "{from} {lasted} {span}"
                    );
                }
            }
        }
    }

    #[test]
    fn what_the_disk_and_the_spill_still_owe_is_said() {
        let mut report = report();
        report.synced = Some(false);
        report.spill_rows_waiting = Some(3);
        report.unsaved_more = 8;
        report.unsaved_file = Some("s.db-unsaved-1.jsonl".into());
        let drawn = drawn(&report);
        for line in [
            "9 sessions not saved, and the disk has not confirmed what is",
            "          3  sessions wait in the spill from before",
            "  not saved: all are in s.db-unsaved-1.jsonl",
        ] {
            assert!(drawn.contains(line), "{line} in {drawn}");
        }
    }

    #[test]
    fn many_unsaved_sessions_are_told_as_a_number() {
        let mut report = report();
        for _ in 0..UNSAVED_SHOWN {
            let (session, count) = ("b".to_owned(), 1);
            report
                .unsaved
                .push(super::super::Unsaved { session, count });
        }
        assert!(drawn(&report).ends_with("  not saved: b, count 1\n  not saved: 1 more\n"));
    }
}
