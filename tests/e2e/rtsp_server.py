#!/usr/bin/python3
"""An RTSP server to test against: GStreamer's, the reference counterpart. Not part of the product.

It serves one stream at /cam1: a live x264 test picture, or a file passed through unchanged so that what arrives can be
compared with what is in it. It prints "READY <port>" when it listens. User "admin" with the password "test".

Needs python3-gi, gir1.2-gst-rtsp-server-1.0 and the plugins base, good, ugly (x264) and, for H.265, bad.
"""

import argparse
import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
gi.require_version("GstRtsp", "1.0")
from gi.repository import Gio, GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0, help="0 (the default) chooses a free one")
    parser.add_argument("--auth", choices=["none", "basic", "digest"], default="none")
    parser.add_argument("--cert", help="PEM certificate: serve rtsps")
    parser.add_argument("--key", help="PEM key of --cert")
    parser.add_argument("--codec", choices=["h264", "h265", "mjpeg", "vp8"], default="h264")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--udp-only", action="store_true", help="answer 461 to TCP")
    only.add_argument("--tcp-only", action="store_true", help="answer 461 to UDP")
    parser.add_argument("--file", help="MP4 or Matroska file with H.264, passed through in real time")
    parser.add_argument("--size", default="640x360")
    parser.add_argument("--fps", type=int, default=15)
    parser.add_argument("--gop", type=int, default=15)
    parser.add_argument("--bitrate", type=int, default=1000, help="kbit/s")
    parser.add_argument("--pattern", default="ball", help="of videotestsrc; 'snow' fills the bitrate")
    parser.add_argument("--audio", choices=["aac", "alaw", "mulaw"], help="a second stream")
    parser.add_argument("--mute", nargs=2, type=float, metavar=("FROM", "TO"), help="no audio between these seconds")
    parser.add_argument("--switch-after", type=float, help="change to half the size after so many seconds of playing")
    return parser.parse_args()


def caps(width, height, fps):
    return f"video/x-raw,width={width},height={height},framerate={fps}/1,format=I420"


def launch_line(options):
    if options.file:
        demuxer = "matroskademux" if options.file.endswith((".mkv", ".webm")) else "qtdemux"
        return f'( filesrc location="{options.file}" ! {demuxer} ! h264parse ! rtph264pay name=pay0 pt=96 config-interval=-1 )'
    width, height = options.size.split("x")
    source = (
        f"videotestsrc is-live=true pattern={options.pattern} ! videoscale "
        f"! capsfilter name=caps caps={caps(width, height, options.fps)} ! queue max-size-buffers=3"
    )
    encoders = {
        "h264": f"x264enc tune=zerolatency speed-preset=ultrafast key-int-max={options.gop} bitrate={options.bitrate} "
        "! h264parse ! rtph264pay name=pay0 pt=96 config-interval=-1",
        "h265": f"x265enc tune=zerolatency speed-preset=ultrafast key-int-max={options.gop} bitrate={options.bitrate} "
        "! h265parse ! rtph265pay name=pay0 pt=96 config-interval=-1",
        "vp8": "vp8enc deadline=1 ! rtpvp8pay name=pay0 pt=96",
        "mjpeg": "jpegenc ! rtpjpegpay name=pay0 pt=26",
    }
    return f"( {source} ! {encoders[options.codec]} {audio(options)} )"


def audio(options):
    if not options.audio:
        return ""
    rate, coder = {
        "aac": (16000, "voaacenc ! aacparse ! rtpmp4gpay name=pay1 pt=97"),
        "alaw": (8000, "alawenc ! rtppcmapay name=pay1 pt=8"),
        "mulaw": (8000, "mulawenc ! rtppcmupay name=pay1 pt=0"),
    }[options.audio]
    raw = f"audio/x-raw,rate={rate},channels=1"
    return f"audiotestsrc is-live=true wave=pink-noise ! {raw} ! valve name=mute ! queue ! audioconvert ! {coder}"


def mute(media, options):
    valve = media.get_element().get_by_name("mute")

    def drop(is_dropped):
        valve.set_property("drop", is_dropped)
        return GLib.SOURCE_REMOVE

    for seconds, is_dropped in zip(options.mute, (True, False)):
        GLib.timeout_add(int(seconds * 1000), drop, is_dropped)


def switch_size(media, options):
    def halve(element):
        width, height = (int(side) // 2 for side in options.size.split("x"))
        filter_ = element.get_by_name("caps")
        filter_.set_property("caps", Gst.Caps.from_string(caps(width, height, options.fps)))
        return GLib.SOURCE_REMOVE

    GLib.timeout_add(int(options.switch_after * 1000), halve, media.get_element())


def authentication(options):
    auth = GstRtspServer.RTSPAuth()
    if options.cert:
        with open(options.cert) as cert, open(options.key) as key:
            auth.set_tls_certificate(Gio.TlsCertificate.new_from_pem(cert.read() + key.read(), -1))
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "user")
    if options.auth == "none":
        auth.set_default_token(token)
    elif options.auth == "basic":
        auth.set_supported_methods(GstRtsp.RTSPAuthMethod.BASIC)
        auth.add_basic(GstRtspServer.RTSPAuth.make_basic("admin", "test"), token)
    else:
        auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
        auth.add_digest("admin", "test", token)
    return auth


def main():
    options = arguments()
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(str(options.port))
    server.set_auth(authentication(options))

    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(launch_line(options))
    # A live source is shared; a file is played from its start to each client.
    factory.set_shared(not options.file)
    transports = GstRtsp.RTSPLowerTrans
    if options.udp_only:
        factory.set_protocols(transports.UDP)
    elif options.tcp_only:
        factory.set_protocols(transports.TCP)
    may = "user,media.factory.access=(boolean)true,media.factory.construct=(boolean)true"
    factory.add_role_from_structure(Gst.Structure.new_from_string(may))
    if options.switch_after:
        factory.connect("media-configure", lambda _, media: switch_size(media, options))
    if options.mute:
        factory.connect("media-configure", lambda _, media: mute(media, options))
    server.get_mount_points().add_factory("/cam1", factory)

    if server.attach(None) == 0:
        sys.exit(f"cannot listen on port {options.port}")
    print(f"READY {server.get_bound_port()}", flush=True)
    GLib.MainLoop().run()


if __name__ == "__main__":
    main()
