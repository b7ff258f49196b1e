#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| rowcast_postgres::fuzzing::text(input, &mut rowcast_fuzz::see));
