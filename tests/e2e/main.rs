//! The agent from end to end: the program itself, against real counterparts on real sockets.
//!
//! Counterparts: the strict stand-in for Kinesis Video Streams (in this process), GStreamer's RTSP server, ffmpeg,
//! ffprobe, mkvinfo, mosquitto, janus, moto (Kinesis, S3, DynamoDB, Secrets Manager, CloudFormation), a stand-in for the
//! nucleus of Greengrass that AWS's own client (awsiotsdk) works against, cfn-lint, Chromium. Whole run: 18 minutes on two
//! cores, most of it waiting; `EDGECAM_LONG=1` makes outages as long as required.

mod acks;
mod audio;
mod cameras;
mod cli;
mod codecs;
mod commands;
mod crash;
mod credentials;
mod demo;
mod detect;
mod disk;
mod documents;
mod edge_agent;
mod faults;
mod greengrass;
mod harness;
mod hls;
mod honeycomb;
mod iot;
mod iot_credentials;
mod kvs_source;
mod live_rtp;
mod looks;
mod mqtt;
mod mxuvc;
mod nuuo;
mod nvrs;
mod odd_cameras;
mod old_kernel;
mod onvif;
mod order;
mod packages;
mod provisioning;
mod rtmp;
mod service;
mod sources;
mod spans;
mod systemd;
mod upgrade;
mod web;
