//! The libFuzzer binary: runs the target that `TRINE_FUZZ_TARGET` names.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| trine_fuzz::run_chosen(data));
