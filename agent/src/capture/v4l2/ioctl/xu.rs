//! Controls of a USB camera's extension units, which V4L2 does not know (UVCIOC_CTRL_QUERY).

use std::io;

use v4l::Device;
use v4l::v4l2::vidioc;

use super::{Plain, call, zeroed};

/// What is done with a control (UVC 1.5 table A-8).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Query {
    /// Sets it.
    SetCur = 0x01,
    /// Asks for it.
    GetCur = 0x81,
}

/// `struct uvc_xu_control_query` of linux/uvcvideo.h.
#[repr(C)]
struct ControlQuery {
    unit: u8,
    selector: u8,
    query: u8,
    size: u16,
    data: *mut u8,
}

impl Plain for ControlQuery {}

/// `_IOWR('u', 0x21, struct uvc_xu_control_query)`: 0xc0107521 where pointers have 64 bits.
const UVCIOC_CTRL_QUERY: vidioc::_IOC_TYPE =
    (3 << 30 | (size_of::<ControlQuery>() << 16) | (0x75 << 8) | 0x21) as vidioc::_IOC_TYPE;

/// Sets or asks for a control of an extension unit. The camera decides whether `data` has the right length.
pub fn query(device: &Device, unit: u8, selector: u8, query: Query, data: &mut [u8]) -> io::Result<()> {
    let mut argument: ControlQuery = zeroed();
    (argument.unit, argument.selector, argument.query) = (unit, selector, query as u8);
    argument.size = u16::try_from(data.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    // `data` outlives the call.
    argument.data = data.as_mut_ptr();
    call(&device.handle(), UVCIOC_CTRL_QUERY, &mut argument)
}

#[cfg(all(test, target_pointer_width = "64"))]
mod tests {
    use super::*;

    #[test]
    fn the_request_is_the_kernels() {
        assert_eq!(UVCIOC_CTRL_QUERY as u32, 0xc010_7521);
    }
}
