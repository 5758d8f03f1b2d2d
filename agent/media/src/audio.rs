//! What a second track may hold: AAC and G.711, as cameras send it. Nothing is decoded here.

use bytes::Bytes;
use h264_reader::rbsp::{BitRead, BitReader};

/// Longest AudioSpecificConfig that is taken: those of AAC have 2 to 20 bytes.
const MAX_CONFIGURATION: usize = 64;

/// How the sound of a track is coded.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum AudioCodec {
    /// ISO/IEC 14496-3, without ADTS.
    Aac,
    /// ITU-T G.711, A-law.
    PcmA,
    /// ITU-T G.711, mu-law.
    PcmU,
}

impl AudioCodec {
    /// The name a person knows it by.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Aac => "AAC",
            Self::PcmA => "G.711 A-law",
            Self::PcmU => "G.711 mu-law",
        }
    }
}

/// What a player must know before the first sound.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AudioFormat {
    codec: AudioCodec,
    sample_rate: u32,
    channels: u16,
    configuration: Bytes,
}

/// A description of sound that cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the AudioSpecificConfig cannot be read: {0}")]
pub struct AudioFormatError(&'static str);

impl AudioFormat {
    /// From an AudioSpecificConfig (ISO/IEC 14496-3 section 1.6.2.1).
    pub fn aac(configuration: Bytes) -> Result<Self, AudioFormatError> {
        if configuration.len() > MAX_CONFIGURATION {
            return Err(AudioFormatError("it is too long"));
        }
        let cut = |_| AudioFormatError("it is cut short");
        let mut bits = BitReader::new(&configuration[..]);
        if bits.read::<u8>(5, "audioObjectType").map_err(cut)? == 31 {
            bits.skip(6, "audioObjectTypeExt").map_err(cut)?;
        }
        let sample_rate = match bits.read::<u8>(4, "samplingFrequencyIndex").map_err(cut)? {
            15 => bits.read::<u32>(24, "samplingFrequency").map_err(cut)?,
            index => RATES.get(usize::from(index)).copied().unwrap_or(0),
        };
        let channels = match bits.read::<u16>(4, "channelConfiguration").map_err(cut)? {
            // Said in a program_config_element, which is not read: a player looks for itself.
            0 => 2,
            7 => 8,
            count @ 1..=6 => count,
            _ => return Err(AudioFormatError("a channelConfiguration that is reserved")),
        };
        if !(7_350..=96_000).contains(&sample_rate) {
            return Err(AudioFormatError("a sampling frequency that is none"));
        }
        Ok(Self { codec: AudioCodec::Aac, sample_rate, channels, configuration })
    }

    /// G.711 with one byte a sample, A-law or mu-law.
    pub fn g711(codec: AudioCodec, sample_rate: u32, channels: u16) -> Self {
        Self { codec, sample_rate, channels, configuration: Bytes::new() }
    }

    /// The codec.
    pub fn codec(&self) -> AudioCodec {
        self.codec
    }

    /// Samples a second.
    pub fn sample_rate(&self) -> u32 {
        self.sample_rate
    }

    /// Channels.
    pub fn channels(&self) -> u16 {
        self.channels
    }

    /// The AudioSpecificConfig of AAC: Matroska's CodecPrivate and MP4's DecoderSpecificInfo. Empty for G.711.
    pub fn configuration(&self) -> &Bytes {
        &self.configuration
    }

    /// Matroska's CodecID, where KVS takes the codec: it takes AAC.
    pub fn kvs_codec_id(&self) -> Option<&'static str> {
        (self.codec == AudioCodec::Aac).then_some("A_AAC")
    }
}

/// ISO/IEC 14496-3 table 1.18.
const RATES: [u32; 13] =
    [96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn audio_specific_configs() {
        let check = |config: &'static [u8], expected: Option<(u32, u16)>| {
            let format = AudioFormat::aac(Bytes::from_static(config)).ok();
            assert_eq!(format.map(|format| (format.sample_rate(), format.channels())), expected, "{config:x?}");
        };
        check(&[0x12, 0x10], Some((44_100, 2)));
        check(&[0x14, 0x08], Some((16_000, 1)));
        check(&[0x15, 0x88], Some((8_000, 1)));
        // HE-AAC that says so at its front, and a rate that is written out.
        check(&[0x2b, 0x92, 0x08, 0x00], Some((22_050, 2)));
        check(&[0x17, 0x80, 0x55, 0xf0, 0x88, 0x00], Some((44_001, 1)));
        check(&[0x12], None);
        check(&[0x17, 0x90], None);
        check(&[0x16, 0x90], None);
        check(&[], None);
        check(&[0; 100], None);
    }
}
