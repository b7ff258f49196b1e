//! Formats: how an event becomes the bytes of a record. One module per format; today [`json`].

pub mod json;
