#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| rowcast_mysql::fuzzing::value(input, &mut rowcast_fuzz::see));
