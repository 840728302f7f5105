//! A shutdown's time line as one SVG, for documents: light and dark, with its text as text.

use super::{Bar, Report};

const WIDTH: u64 = 760;
/// Where the time line begins, how wide it is, and how high each phase.
const LEFT: u64 = 176;
const LINE: u64 = 560;
const TOP: u64 = 52;
const ROW: u64 = 26;
/// Steps of the scale, at most.
const STEPS_MAX: u64 = 8;

const STYLE: &str = "
  text { font: 13px system-ui, sans-serif; fill: #1f2328; }
  .head { font-weight: 600; font-size: 15px; }
  .number, .scale { text-anchor: end; fill: #59636e; font-variant-numeric: tabular-nums; }
  .scale { text-anchor: middle; font-size: 11px; }
  .step { stroke: #d1d9e0; }
  .bar { fill: #0969da; }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc; }
    .number, .scale { fill: #9198a1; }
    .step { stroke: #3d444d; }
    .bar { fill: #4493f8; }
  }
";

pub(super) fn drawn(report: &Report) -> String {
    let span = report.span_ms();
    let bars = report.bars();
    let bottom = TOP + ROW * bars.len() as u64;
    let facts: Vec<String> = report
        .facts()
        .iter()
        .map(|(count, meaning)| format!("{count} {meaning}"))
        .collect();
    let height = bottom + 24 + 20 * facts.chunks(2).len() as u64 + 12;
    let title = escaped(&report.headline());
    let mut lines = vec![
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
             width=\"{WIDTH}\" height=\"{height}\" role=\"img\" aria-labelledby=\"title\">"
        ),
        format!("<title id=\"title\">{title}</title>\n<style>{STYLE}</style>"),
        format!("<text class=\"head\" x=\"16\" y=\"28\">{title}</text>"),
    ];
    for ms in steps(span) {
        let (x, y) = (LEFT + at(ms, span), bottom + 16);
        lines.push(format!("<path class=\"step\" d=\"M{x} {TOP}V{bottom}\"/>"));
        lines.push(format!(
            "<text class=\"scale\" x=\"{x}\" y=\"{y}\">{ms} ms</text>"
        ));
    }
    for (row, bar) in bars.iter().enumerate() {
        lines.extend(phase(TOP + ROW * row as u64, bar, span));
    }
    for (index, fact) in facts.iter().enumerate() {
        let (row, column) = (index as u64 / 2, index as u64 % 2);
        let (x, y) = (16 + (WIDTH / 2 - 16) * column, bottom + 48 + 20 * row);
        lines.push(format!("<text x=\"{x}\" y=\"{y}\">{fact}</text>"));
    }
    lines.push("</svg>\n".to_owned());
    lines.join("\n")
}

fn phase(top: u64, bar: &Bar, span: u64) -> impl Iterator<Item = String> {
    let Bar { name, from, lasted } = *bar;
    let (text, number) = (top + 18, LEFT - 12);
    let (x, y) = (LEFT + at(from, span), top + 5);
    // Whatever took time is to be seen.
    let width = (at(from.saturating_add(lasted), span) - at(from, span)).max(2);
    let drawn = (lasted > 0).then(|| {
        format!(
            "<rect class=\"bar\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"16\" rx=\"2\"/>"
        )
    });
    let name = format!("<text x=\"16\" y=\"{text}\">{name}</text>");
    let number = format!("<text class=\"number\" x=\"{number}\" y=\"{text}\">{lasted} ms</text>");
    [name, number].into_iter().chain(drawn)
}

/// Where on the line a time is.
fn at(ms: u64, span: u64) -> u64 {
    (u128::from(ms.min(span)) * u128::from(LINE) / u128::from(span)) as u64
}

/// Round times from 0 on: 1, 2 or 5 times a power of ten apart.
fn steps(span: u64) -> impl Iterator<Item = u64> {
    let powers = (0..20).map(|exponent| 10_u64.pow(exponent));
    let step = powers
        .flat_map(|power| [1, 2, 5].map(|factor| power.saturating_mul(factor)))
        .find(|step| span / step < STEPS_MAX)
        .unwrap_or(u64::MAX);
    (0..=span / step).map(move |index| index * step)
}

/// For the text of an element.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::super::tests::{LINE, report};
    use super::*;

    #[test]
    fn every_phase_and_every_count_is_in_the_drawing() {
        let drawn = drawn(&report());
        for part in ["draining", "256 ms", "790 messages counted after a goodbye"] {
            assert!(drawn.contains(part), "{part} in {drawn}");
        }
        assert_eq!(drawn.matches("<rect class=\"bar\"").count(), 5);
    }

    #[test]
    fn nothing_of_the_file_becomes_markup() {
        let line = LINE.replace("SIGTERM", "<script>&");
        let report = super::super::parse(&line).expect("a report");
        let drawn = drawn(&report);
        assert!(drawn.contains("&lt;script>&amp;,"));
        assert!(!drawn.contains("<script"));
    }

    #[test]
    fn the_scale_has_few_and_round_steps() {
        let all = |span| steps(span).collect::<Vec<_>>();
        assert_eq!(all(1), [0, 1]);
        assert_eq!(all(763), [0, 100, 200, 300, 400, 500, 600, 700]);
        assert_eq!(all(9_900), [0, 2_000, 4_000, 6_000, 8_000]);
        assert!(all(u64::MAX).len() as u64 <= STEPS_MAX);
    }
}
