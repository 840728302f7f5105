//! What the fuzz targets share: how bytes are cut on their way, and how much memory an input has
//! made the code hold. Decided by the input alone, so that every finding replays.

pub mod heap;

/// Cuts bytes into pieces as `pattern` says: 0 is one piece, 1 is byte by byte, and others are
/// lengths between 1 and the pattern itself, in an order that follows from it.
pub fn cut(bytes: &[u8], pattern: u8) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes;
    let mut state = u32::from(pattern);
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let len = match pattern {
            0 => rest.len(),
            pattern => {
                // Numerical Recipes' generator: any will do.
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                1 + (state >> 16) as usize % usize::from(pattern)
            }
        };
        let (piece, more) = rest.split_at(len.min(rest.len()));
        rest = more;
        Some(piece)
    })
}

/// The first byte, which chooses, and what it chooses for.
pub fn choice(data: &[u8]) -> (u8, &[u8]) {
    match data.split_first() {
        Some((first, rest)) => (*first, rest),
        None => (0, data),
    }
}
