//! The shutdown machine.

/// Who asked for the shutdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// SIGTERM.
    Sigterm,
    /// SIGINT.
    Sigint,
    /// `Handle::shutdown`.
    Handle,
}
