//! What `v4l2-sys-mit` 0.3 makes with bindgen at each build, made once (`cross/v4l2-sys/generate`).
//!
//! The structures of linux/videodev2.h have fixed-width fields, but for pointers, `long` and `timeval`, which come from
//! Rust and `libc` and so are right for each target. `tests` checks the sizes against those of the kernel's ABI.
#![allow(clippy::all, dead_code, deprecated, missing_docs, non_camel_case_types, non_snake_case, non_upper_case_globals)]

include!("bindings.rs");

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::size_of;

    #[cfg(target_pointer_width = "64")]
    #[test]
    fn sizes_are_those_that_the_kernel_encodes_in_its_ioctl_numbers() {
        // VIDIOC_QUERYCAP 0x80685600, _S_FMT 0xc0d05605, _DQBUF 0xc0585611, _S_PARM 0xc0cc5616, _ENUM_FRAMESIZES
        // 0xc02c564a, _ENUM_FRAMEINTERVALS 0xc034564b, _S_EXT_CTRLS 0xc0205648, _QUERY_EXT_CTRL 0xc0e85667.
        for (size, expected) in [
            (size_of::<v4l2_capability>(), 0x68),
            (size_of::<v4l2_format>(), 0xd0),
            (size_of::<v4l2_buffer>(), 0x58),
            (size_of::<v4l2_streamparm>(), 0xcc),
            (size_of::<v4l2_frmsizeenum>(), 0x2c),
            (size_of::<v4l2_frmivalenum>(), 0x34),
            (size_of::<v4l2_ext_controls>(), 0x20),
            (size_of::<v4l2_query_ext_ctrl>(), 0xe8),
        ] {
            assert_eq!(size, expected);
        }
    }
}
