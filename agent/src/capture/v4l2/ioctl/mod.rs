//! The ioctls that the crate `v4l` lacks, or does in a way that a strange device can crash. The only module with `unsafe`.
//!
//! `v4l` opens devices and speaks of formats, sizes and rates. It unwraps names that are no UTF-8 and control types that
//! are newer than it ([`controls`]); its stream of buffers cannot be stopped while it waits for the first picture, and
//! panics where a device ends badly ([`buffers`]).
//!
//! Every function is safe to call: it passes one structure of the size that the request encodes, which lives until the
//! call returns, and reads from unions only what the kernel says is in them.
#![allow(
    unsafe_code,
    reason = "ioctls and mapped buffers have no safe form; everything that leaves this module is safe"
)]

pub mod buffers;
pub mod controls;
pub mod m2m;
pub mod xu;

use std::io;
use std::os::raw::c_void;

use v4l::device::Handle;
use v4l::v4l_sys as sys;
use v4l::v4l2::{ioctl, vidioc};

/// Structures of the V4L2 ABI: plain data for which all zeros is a value.
trait Plain: Sized {}
impl Plain for sys::v4l2_capability {}
impl Plain for sys::v4l2_query_ext_ctrl {}
impl Plain for sys::v4l2_querymenu {}
impl Plain for sys::v4l2_ext_control {}
impl Plain for sys::v4l2_ext_controls {}
impl Plain for sys::v4l2_requestbuffers {}
impl Plain for sys::v4l2_buffer {}
impl Plain for u32 {}

fn zeroed<T: Plain>() -> T {
    // SAFETY: `Plain` is only for structures of numbers, arrays of them, and pointers that may be null.
    unsafe { std::mem::zeroed() }
}

fn call<T: Plain>(handle: &Handle, request: vidioc::_IOC_TYPE, argument: &mut T) -> io::Result<()> {
    // SAFETY: each request here is called with the structure whose size it encodes.
    unsafe { ioctl(handle.fd(), request, std::ptr::from_mut(argument).cast::<c_void>()) }
}
