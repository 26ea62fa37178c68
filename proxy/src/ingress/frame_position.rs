//! Where the bytes of an HTTP/2 connection are in its frames (RFC 9113, 3.4 and 4.1).

/// Where one side's bytes are.
#[derive(Debug)]
pub(crate) struct Position {
    /// Bytes of the preface, or of a frame's payload, that are to come.
    to_skip: usize,
    /// What has come of the next frame's header.
    header: [u8; HEADER],
    has: usize,
    /// Whether a field block has begun and not ended (RFC 9113, 4.3), or the preface.
    is_amid_head: bool,
    /// Whether it ends with the payload that is being skipped.
    ends_head: bool,
    /// A RST_STREAM whose payload is being skipped.
    reset: Option<FrameHead>,
}

/// What a frame's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameHead {
    /// Its type.
    pub(crate) kind: u8,
    /// Its flags.
    pub(crate) flags: u8,
    /// How long its payload is.
    pub(crate) length: usize,
    /// Its stream.
    pub(crate) stream: u32,
    /// Of RST_STREAM, the last byte of its payload, which tells one reason from another (RFC 9113, 7).
    pub(crate) reason: u8,
}

/// RFC 9113, 6.
#[allow(missing_docs)]
impl FrameHead {
    pub(crate) const DATA: u8 = 0;
    pub(crate) const HEADERS: u8 = 1;
    pub(crate) const PRIORITY: u8 = 2;
    pub(crate) const RST_STREAM: u8 = 3;
    pub(crate) const SETTINGS: u8 = 4;
    pub(crate) const PING: u8 = 6;
    pub(crate) const WINDOW_UPDATE: u8 = 8;
    pub(crate) const CONTINUATION: u8 = 9;
    pub(crate) const END_STREAM: u8 = 1;
    pub(crate) const END_HEADERS: u8 = 4;
    pub(crate) const PADDED: u8 = 8;
}

impl Position {
    /// Begins before a client's preface.
    pub(crate) fn at_preface() -> Self {
        Self { to_skip: PREFACE, header: [0; HEADER], has: 0, is_amid_head: true, ends_head: true, reset: None }
    }

    /// Begins before a server's first frame.
    pub(crate) fn at_frame() -> Self {
        Self { to_skip: 0, header: [0; HEADER], has: 0, is_amid_head: false, ends_head: false, reset: None }
    }

    /// Returns whether the last byte was the last of a head, a payload or a preface.
    pub(crate) fn is_between_frames(&self) -> bool {
        self.to_skip == 0 && self.has == 0
    }

    /// Returns whether a field block, or the preface, has begun and not ended.
    pub(crate) fn is_amid_head(&self) -> bool {
        self.is_amid_head
    }

    /// Goes on over bytes, and tells of each frame whose header ends in them; of RST_STREAM, whose payload does.
    pub(crate) fn advance(&mut self, mut bytes: &[u8], mut begins: impl FnMut(FrameHead)) {
        loop {
            let skipped = self.to_skip.min(bytes.len());
            self.to_skip -= skipped;
            if self.to_skip == 0
                && let Some(reset) = self.reset.take()
            {
                let reason = skipped.checked_sub(1).and_then(|last| bytes.get(last)).copied().unwrap_or_default();
                begins(FrameHead { reason, ..reset });
            }
            bytes = bytes.get(skipped..).unwrap_or_default();
            if self.to_skip == 0 && self.ends_head {
                self.is_amid_head = false;
                self.ends_head = false;
            }
            let Some((byte, rest)) = bytes.split_first() else { return };
            if let Some(place) = self.header.get_mut(self.has) {
                *place = *byte;
            }
            self.has += 1;
            bytes = rest;
            if self.has == HEADER {
                let head = self.begin_frame();
                match head.kind {
                    FrameHead::RST_STREAM => self.reset = Some(head),
                    _ => begins(head),
                }
            }
        }
    }

    fn begin_frame(&mut self) -> FrameHead {
        let [high, middle, low, kind, flags, stream @ ..] = self.header;
        self.has = 0;
        self.to_skip = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        if matches!(kind, FrameHead::HEADERS | FrameHead::CONTINUATION) {
            self.is_amid_head = true;
            self.ends_head = flags & FrameHead::END_HEADERS != 0;
        }
        // Its highest bit means nothing (RFC 9113, 4.1).
        FrameHead { kind, flags, length: self.to_skip, stream: u32::from_be_bytes(stream) & (u32::MAX >> 1), reason: 0 }
    }
}

/// `PRI * HTTP/2.0`, with its empty lines and `SM`.
const PREFACE: usize = 24;
/// A frame's length, type, flags and stream.
const HEADER: usize = 9;

#[cfg(test)]
mod tests {
    use super::*;

    const HEADERS: u8 = FrameHead::HEADERS;
    const CONTINUATION: u8 = FrameHead::CONTINUATION;
    const END_HEADERS: u8 = FrameHead::END_HEADERS;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let length = u32::try_from(payload).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, 1], &vec![b'x'; payload]].concat()
    }

    fn amid(position: &mut Position, bytes: &[u8]) -> bool {
        position.advance(bytes, |_| ());
        position.is_amid_head()
    }

    /// For each byte, whether the client is amid a head after it.
    #[test]
    fn a_head_lasts_from_its_frame_s_header_to_its_end_wherever_it_is_cut() {
        const SETTINGS: u8 = 4;
        let preface = vec![b'P'; PREFACE];
        let parts = [
            (preface, [true, false]),
            (frame(SETTINGS, 0, 0), [false, false]),
            (frame(SETTINGS, 0, 6), [false, false]),
            (frame(HEADERS, END_HEADERS, 5), [true, false]),
            (frame(0, END_HEADERS, 300), [false, false]),
            (frame(HEADERS, 0, 5), [true, true]),
            (frame(CONTINUATION, 0, 0), [true, true]),
            (frame(CONTINUATION, END_HEADERS, 70_000), [true, false]),
            (frame(HEADERS, END_HEADERS, 0), [false, false]),
        ];
        let all: Vec<u8> = parts.iter().flat_map(|(bytes, _)| bytes.clone()).collect();
        let mut ends = Vec::new();
        let mut end = 0;
        for (bytes, expected) in &parts {
            ends.push((end, end + bytes.len(), *expected));
            end += bytes.len();
        }
        let mut position = Position::at_preface();
        let seen: Vec<bool> = all.iter().map(|byte| amid(&mut position, &[*byte])).collect();
        for (begin, end, [amid, after]) in ends {
            // The header of a frame says what it is with its last byte.
            let told = if begin == 0 { 0 } else { begin + HEADER - 1 };
            assert!(seen[told..end - 1].iter().all(|seen| *seen == amid), "{begin} to {end}");
            assert_eq!(seen[end - 1], after, "the end at {end}");
        }
        for cut in (0..1000).chain([all.len()]) {
            let mut position = Position::at_preface();
            let (first, second) = all.split_at(cut);
            let mut kinds = Vec::new();
            position.advance(first, |head| kinds.push((head.kind, head.length)));
            position.advance(second, |head| kinds.push((head.kind, head.length)));
            assert!(!position.is_amid_head() && position.is_between_frames(), "cut at {cut}");
            let expected = [(4, 0), (4, 6), (1, 5), (0, 300), (1, 5), (9, 0), (9, 70_000), (1, 0)];
            assert_eq!(kinds, expected, "cut at {cut}");
        }
    }

    #[test]
    fn a_server_begins_with_a_frame() {
        let mut position = Position::at_frame();
        assert!(position.is_between_frames());
        let mut heads = Vec::new();
        let bytes = [0, 0, 4, 3, 0, 0x80, 0, 1, 2, 0, 0, 0, 8];
        for byte in &bytes[..bytes.len() - 1] {
            position.advance(&[*byte], |head| heads.push(head));
            assert!(!position.is_between_frames());
        }
        position.advance(&bytes[bytes.len() - 1..], |head| heads.push(head));
        assert!(position.is_between_frames());
        assert_eq!(heads, [FrameHead { kind: FrameHead::RST_STREAM, flags: 0, length: 4, stream: 258, reason: 8 }]);
    }
}
