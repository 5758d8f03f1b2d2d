#!/usr/bin/python3
"""A receiver of plain RTP to test against: GStreamer's rtpbin, with RTCP feedback. Not part of the product.

It listens on --rtp and --rtcp, sends its own RTCP to --rtcp-to, and writes what it makes of the stream as H.264 in
Annex B form to --output. It prints "READY" when it listens and ends, in order, when its standard
input does.

Needs python3-gi, gir1.2-gstreamer-1.0 and the plugins good and bad.
"""

import argparse
import sys
import threading

import gi

gi.require_version("Gst", "1.0")
from gi.repository import GLib, Gst  # noqa: E402

CAPS = (
    "application/x-rtp,media=video,clock-rate=90000,encoding-name=H264,payload=103,"
    "rtcp-fb-nack=(boolean)true,rtcp-fb-nack-pli=(boolean)true,rtcp-fb-ccm-fir=(boolean)true"
)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for port in ["--rtp", "--rtcp", "--rtcp-to"]:
        parser.add_argument(port, type=int, required=True, help="port on this machine")
    parser.add_argument("--output", required=True)
    parser.add_argument("--latency", type=int, default=400, help="of the jitter buffer, ms")
    return parser.parse_args()


def main():
    options = arguments()
    Gst.init(None)
    pipeline = Gst.parse_launch(
        f"rtpbin name=bin latency={options.latency} do-retransmission=true rtp-profile=avpf "
        f'udpsrc address=127.0.0.1 port={options.rtp} caps="{CAPS}" ! bin.recv_rtp_sink_0 '
        f"udpsrc address=127.0.0.1 port={options.rtcp} caps=application/x-rtcp ! bin.recv_rtcp_sink_0 "
        f"bin.send_rtcp_src_0 ! udpsink host=127.0.0.1 port={options.rtcp_to} sync=false async=false "
        "rtph264depay name=depay ! h264parse config-interval=-1 ! video/x-h264,stream-format=byte-stream,alignment=au "
        f'! filesink location="{options.output}" async=false sync=false buffer-mode=unbuffered'
    )
    rtpbin = pipeline.get_by_name("bin")
    depay = pipeline.get_by_name("depay")

    def pad_added(_, pad):
        if pad.get_name().startswith("recv_rtp_src_"):
            pad.link(depay.get_static_pad("sink"))

    rtpbin.connect("pad-added", pad_added)
    # At 5 s, feedback that follows other feedback would wait for the next regular report (RFC 4585 section 3.5.2).
    session = rtpbin.emit("get-internal-session", 0)
    session.set_property("rtcp-min-interval", 50 * 1_000_000)
    session.set_property("bandwidth", 10_000_000.0)

    loop = GLib.MainLoop()
    bus = pipeline.get_bus()
    bus.add_signal_watch()
    failed = []

    def on_message(_, message):
        if message.type == Gst.MessageType.ERROR:
            failed.append(message.parse_error()[0].message)
            loop.quit()
        elif message.type == Gst.MessageType.EOS:
            loop.quit()

    bus.connect("message", on_message)
    if pipeline.set_state(Gst.State.PLAYING) == Gst.StateChangeReturn.FAILURE:
        sys.exit("cannot listen")
    # Both sockets are bound when it plays.
    pipeline.get_state(Gst.SECOND)
    print("READY", flush=True)

    def wait_for_the_end():
        sys.stdin.read()
        # What is in the jitter buffer comes out first.
        GLib.timeout_add(options.latency + 300, lambda: pipeline.send_event(Gst.Event.new_eos()) and False)
        GLib.timeout_add(options.latency + 2000, lambda: loop.quit() and False)

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    loop.run()
    pipeline.set_state(Gst.State.NULL)
    if failed:
        sys.exit(failed[0])


if __name__ == "__main__":
    main()
