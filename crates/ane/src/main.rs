//! The command `ane`.

fn main() {}
