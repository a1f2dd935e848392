//! The options of this process ([`format::options`]).

use format::options::Conf;
use once_cell::race::OnceBox;

static CURRENT: OnceBox<Conf> = OnceBox::new();

/// The options; the defaults until start-up has read them.
pub fn current() -> &'static Conf {
    static DEFAULT: Conf = Conf::DEFAULT;
    CURRENT.get().unwrap_or(&DEFAULT)
}

/// Sets the options, at start-up.
pub fn set(conf: Conf) {
    let _ = CURRENT.set(Box::new(conf));
}
