//! What a device is, and its controls.

use std::io;

use v4l::Device;
use v4l::v4l_sys as sys;
use v4l::v4l2::vidioc;

use super::{Plain, zeroed};

/// What a device says about itself (VIDIOC_QUERYCAP).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Capability {
    /// The driver, such as `uvcvideo`.
    pub driver: String,
    /// The device's own name.
    pub card: String,
    /// Where it is connected, such as `usb-0000:00:14.0-1`.
    pub bus: String,
    /// V4L2_CAP_… of this node, not of the whole device.
    pub caps: u32,
}

impl Capability {
    /// Whether the node gives pictures, in buffers that can be mapped. A camera has other nodes for metadata.
    pub fn captures(&self) -> bool {
        let wanted = sys::V4L2_CAP_VIDEO_CAPTURE | sys::V4L2_CAP_STREAMING;
        self.caps & wanted == wanted
    }
}

/// What kind of value a control has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ControlKind {
    /// A number.
    Integer,
    /// Off or on.
    Boolean,
    /// One of [`Control::items`].
    Menu,
    /// Does something when it is set, and has no value.
    Button,
    /// Bits.
    Bitmask,
    /// A number of 64 bits.
    Integer64,
}

/// A control of a device (VIDIOC_QUERY_EXT_CTRL).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Control {
    /// V4L2_CID_….
    pub id: u32,
    /// The driver's name for it.
    pub name: String,
    /// What its value is.
    pub kind: ControlKind,
    /// The least value.
    pub minimum: i64,
    /// The greatest value.
    pub maximum: i64,
    /// From one value to the next.
    pub step: u64,
    /// The value when nothing was set.
    pub default: i64,
    /// Whether it cannot be set.
    pub is_read_only: bool,
    /// Whether another control makes it have no effect for now.
    pub is_inactive: bool,
    /// The choices of a menu: value and name.
    pub items: Vec<(i64, String)>,
}

/// Most controls that are asked for: a driver that counts in circles must not keep us.
const MOST_CONTROLS: usize = 512;
const MOST_ITEMS: i64 = 256;

/// Asks what the device is.
pub fn capability(device: &Device) -> io::Result<Capability> {
    let mut raw: sys::v4l2_capability = zeroed();
    call(device, vidioc::VIDIOC_QUERYCAP, &mut raw)?;
    let has_own = raw.capabilities & sys::V4L2_CAP_DEVICE_CAPS != 0;
    Ok(Capability {
        driver: text(&raw.driver),
        card: text(&raw.card),
        bus: text(&raw.bus_info),
        caps: if has_own { raw.device_caps } else { raw.capabilities },
    })
}

/// All controls with a single value that are not disabled.
pub fn controls(device: &Device) -> Vec<Control> {
    let mut found = Vec::new();
    let mut id = 0;
    for _ in 0..MOST_CONTROLS {
        let mut raw: sys::v4l2_query_ext_ctrl = zeroed();
        raw.id = id | sys::V4L2_CTRL_FLAG_NEXT_CTRL;
        if call(device, vidioc::VIDIOC_QUERY_EXT_CTRL, &mut raw).is_err() {
            break;
        }
        id = raw.id;
        found.extend(control(device, &raw));
    }
    found
}

fn control(device: &Device, raw: &sys::v4l2_query_ext_ctrl) -> Option<Control> {
    let kind = match raw.type_ {
        sys::v4l2_ctrl_type_V4L2_CTRL_TYPE_INTEGER => ControlKind::Integer,
        sys::v4l2_ctrl_type_V4L2_CTRL_TYPE_BOOLEAN => ControlKind::Boolean,
        sys::v4l2_ctrl_type_V4L2_CTRL_TYPE_MENU | sys::v4l2_ctrl_type_V4L2_CTRL_TYPE_INTEGER_MENU => ControlKind::Menu,
        sys::v4l2_ctrl_type_V4L2_CTRL_TYPE_BUTTON => ControlKind::Button,
        sys::v4l2_ctrl_type_V4L2_CTRL_TYPE_BITMASK => ControlKind::Bitmask,
        sys::v4l2_ctrl_type_V4L2_CTRL_TYPE_INTEGER64 => ControlKind::Integer64,
        _ => return None,
    };
    if raw.flags & sys::V4L2_CTRL_FLAG_DISABLED != 0 || raw.nr_of_dims > 0 {
        return None;
    }
    let items = if kind == ControlKind::Menu { menu(device, raw) } else { Vec::new() };
    // c_char is signed on some targets and not on others.
    let name: Vec<u8> = raw.name.iter().map(|byte| byte.to_ne_bytes()[0]).collect();
    Some(Control {
        id: raw.id,
        name: text(&name),
        kind,
        minimum: raw.minimum,
        maximum: raw.maximum,
        step: raw.step.max(1),
        default: raw.default_value,
        is_read_only: raw.flags & sys::V4L2_CTRL_FLAG_READ_ONLY != 0,
        is_inactive: raw.flags & sys::V4L2_CTRL_FLAG_INACTIVE != 0,
        items,
    })
}

fn menu(device: &Device, control: &sys::v4l2_query_ext_ctrl) -> Vec<(i64, String)> {
    let most = control.maximum.min(control.minimum.saturating_add(MOST_ITEMS));
    let item = |index: i64| {
        let mut raw: sys::v4l2_querymenu = zeroed();
        (raw.id, raw.index) = (control.id, u32::try_from(index).ok()?);
        // Drivers leave out items in the middle.
        call(device, vidioc::VIDIOC_QUERYMENU, &mut raw).ok()?;
        let is_number = control.type_ == sys::v4l2_ctrl_type_V4L2_CTRL_TYPE_INTEGER_MENU;
        // SAFETY: the type of the control says which member the kernel has filled; both are plain bytes.
        let name = unsafe {
            if is_number { { raw.__bindgen_anon_1.value }.to_string() } else { text(&{ raw.__bindgen_anon_1.name }) }
        };
        Some((index, name))
    };
    (control.minimum..=most).filter_map(item).collect()
}

/// The value of a control (VIDIOC_G_EXT_CTRLS).
pub fn value(device: &Device, id: u32) -> io::Result<i64> {
    let is_wide = is_64_bit(device, id)?;
    let mut value: sys::v4l2_ext_control = zeroed();
    value.id = id;
    exchange(device, vidioc::VIDIOC_G_EXT_CTRLS, &mut value)?;
    // SAFETY: the type of the control says which member the kernel has filled; both are plain numbers.
    Ok(unsafe { if is_wide { value.__bindgen_anon_1.value64 } else { value.__bindgen_anon_1.value.into() } })
}

/// Sets a control (VIDIOC_S_EXT_CTRLS); a button is pressed by any value.
pub fn set(device: &Device, id: u32, to: i64) -> io::Result<()> {
    let mut value: sys::v4l2_ext_control = zeroed();
    value.id = id;
    if is_64_bit(device, id)? {
        value.__bindgen_anon_1.value64 = to;
    } else {
        let narrow = i32::try_from(to).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        value.__bindgen_anon_1.value = narrow;
    }
    exchange(device, vidioc::VIDIOC_S_EXT_CTRLS, &mut value)
}

fn is_64_bit(device: &Device, id: u32) -> io::Result<bool> {
    let mut raw: sys::v4l2_query_ext_ctrl = zeroed();
    raw.id = id;
    call(device, vidioc::VIDIOC_QUERY_EXT_CTRL, &mut raw)?;
    Ok(raw.type_ == sys::v4l2_ctrl_type_V4L2_CTRL_TYPE_INTEGER64)
}

fn exchange(device: &Device, request: vidioc::_IOC_TYPE, value: &mut sys::v4l2_ext_control) -> io::Result<()> {
    let mut list: sys::v4l2_ext_controls = zeroed();
    list.count = 1;
    // `value` outlives the call.
    list.controls = value;
    call(device, request, &mut list)
}

fn call<T: Plain>(device: &Device, request: vidioc::_IOC_TYPE, argument: &mut T) -> io::Result<()> {
    super::call(&device.handle(), request, argument)
}

/// Text up to the first zero byte.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).trim().to_owned()
}
