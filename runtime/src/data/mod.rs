//! From files to the inputs of a step.
//!
//! - [`files`] finds the texts of a run and reads them: UTF-8, tokens in `.bin` files.
//! - [`stream`] lays texts end to end and splits off what is held out.
//! - [`order`] says which samples a step sees: a pure function of seed and step.
//! - [`batch`] knows the columns that a plan wants; [`source`] fills them.
//! - [`prefetch`] does so ahead of time, on a thread of its own.

pub mod batch;
pub mod files;
pub mod order;
pub mod prefetch;
pub mod ring;
pub mod source;
pub mod stream;
