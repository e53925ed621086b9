//! Job descriptions as slurmctld has them, in a fake of its memory.

use std::{mem::MaybeUninit, ptr};

use super::{JobDescription, Text, Variables, layout, memory};
use crate::{Version, raw};

/// A description, all zero, as `slurm_init_job_desc_msg` leaves its pointers.
struct Job(Box<raw::job_desc_msg_t>);

impl Job {
    fn new() -> Job {
        // SAFETY: a C structure of numbers and pointers.
        Job(Box::new(unsafe { MaybeUninit::zeroed().assume_init() }))
    }

    fn with_environment(entries: &[&std::ffi::CStr]) -> Job {
        let mut job = Job::new();
        let size = size_of::<*mut i8>();
        let (list, file) = (&raw mut job.0.environment, c"".as_ptr());
        // SAFETY: a null field of the description.
        unsafe {
            raw::slurm_xrecalloc(list.cast(), entries.len(), size, true, false, file, 0, file)
        };
        for (at, entry) in entries.iter().enumerate() {
            let copy = memory::duplicate(entry).unwrap();
            // SAFETY: just allocated for so many. No null pointer at the end, as in old releases.
            unsafe { job.0.environment.wrapping_add(at).write(copy) };
        }
        job.0.env_size = entries.len() as u32;
        job
    }

    fn description(&mut self) -> JobDescription<'_> {
        // SAFETY: borrowed for as long as the description lives.
        unsafe { JobDescription::new(ptr::from_mut(&mut *self.0), layout::NATIVE) }
    }
}

const ENV: Variables = Variables::Environment;

#[test]
fn a_variable_is_found_by_its_whole_name() {
    let mut job = Job::with_environment(&[c"AB=2", c"A=1=one", c"A=2", c"nonsense"]);
    let job = job.description();
    assert_eq!(job.variable(ENV, "A"), Ok(Some("1=one".into())));
    assert_eq!(job.variable(ENV, "B"), Ok(None));
    assert_eq!(job.variable(Variables::SpankJob, "A"), Ok(None));
}

#[test]
fn every_variable_of_a_name_is_replaced_and_no_other() {
    let mut job = Job::with_environment(&[c"A=1", c"AB=2", c"A=3"]);
    let mut job = job.description();
    job.set_variable(ENV, "A", "new").unwrap();
    assert_eq!(job.variable(ENV, "A"), Ok(Some("new".into())));
    assert_eq!(job.variable(ENV, "AB"), Ok(Some("2".into())));
}

#[test]
fn a_new_variable_grows_the_list_and_its_length() {
    let mut job = Job::with_environment(&[c"A=1"]);
    job.description().set_variable(ENV, "B", "2").unwrap();
    job.description().set_variable(ENV, "C", "3").unwrap();
    job.description().set_variable(Variables::SpankJob, "D", "4").unwrap();
    assert_eq!(job.0.env_size, 3);
    assert_eq!(job.0.spank_job_env_size, 1);
    // SAFETY: the list has its three entries and a null pointer.
    assert!(unsafe { job.0.environment.wrapping_add(3).read() }.is_null());
    assert_eq!(job.description().variable(ENV, "C"), Ok(Some("3".into())));
    assert_eq!(job.description().variable(ENV, "A"), Ok(Some("1".into())));
}

#[test]
fn text_that_is_not_utf8_is_an_error_and_still_there_as_bytes() {
    let mut job = Job::with_environment(&[c"A=\xff"]);
    let job = job.description();
    assert!(job.variable(ENV, "A").is_err());
    assert!(job.variable_os(ENV, "A").is_some());
}

#[test]
fn what_cannot_be_in_an_environment_changes_nothing() {
    let mut job = Job::with_environment(&[c"A=1"]);
    let mut job = job.description();
    for (name, value) in [("", "x"), ("A=B", "x"), ("A", "x\0y")] {
        assert!(job.set_variable(ENV, name, value).is_err());
    }
    assert_eq!(job.variable(ENV, "A"), Ok(Some("1".into())));
}

#[test]
fn a_text_is_replaced_and_the_old_one_is_slurms_to_free() {
    let mut job = Job::new();
    let mut job = job.description();
    assert_eq!(job.text(Text::AdminComment), None);
    job.set_text(Text::AdminComment, "one").unwrap();
    job.set_text(Text::AdminComment, "two").unwrap();
    assert_eq!(job.text(Text::AdminComment).unwrap(), "two");
}

#[test]
fn of_another_release_only_the_variables_are_read() {
    let mut job = Job::new();
    let other = [24 << 16 | 11 << 8, 26 << 16 | 5 << 8, 22 << 16 | 5 << 8]
        .map(Version::from_number)
        .into_iter()
        .filter_map(layout::of)
        .find(|layout| *layout != layout::NATIVE)
        .unwrap();
    // SAFETY: nothing but its address is used.
    let mut job = unsafe { JobDescription::new(ptr::from_mut(&mut *job.0), other) };
    assert_eq!(job.user_id(), None);
    assert_eq!(job.text(Text::Script), None);
    assert!(job.set_text(Text::AdminComment, "x").is_err());
}
