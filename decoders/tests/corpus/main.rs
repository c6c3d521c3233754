//! Captures that nobody here wrote, through the pipeline: no panic, bounded memory, and a table for each folder of what
//! equals a second reader and what does not, with the reason (`-- --nocapture` shows it).

mod capture;
mod compare;
mod http1;
mod made;
mod postgresql;
mod redis;
mod tcp;
