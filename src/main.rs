//! Rowcast.
fn main() {}
