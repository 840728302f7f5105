//! Frames as clients send them, with a mask: for the tests of this directory, and never a part of the
//! server.

pub(super) const MASK: [u8; 4] = [1, 2, 3, 4];

/// What begins a frame that announces so many bytes, in the form that the second byte says.
pub(super) fn header(first: u8, second: u8, length: u64) -> Vec<u8> {
    let mut bytes = vec![first, second];
    match second & 0x7f {
        126 => bytes.extend((length as u16).to_be_bytes()),
        127 => bytes.extend(length.to_be_bytes()),
        _ => {}
    }
    bytes.extend(MASK);
    bytes
}

/// A whole frame; `first` is FIN, RSV and opcode.
pub(super) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let second = match payload.len() {
        short @ ..126 => short as u8,
        126..65_536 => 126,
        _ => 127,
    };
    let mut bytes = header(first, 0x80 | second, payload.len() as u64);
    let mask = MASK.iter().cycle();
    bytes.extend(payload.iter().zip(mask).map(|(byte, mask)| byte ^ mask));
    bytes
}
