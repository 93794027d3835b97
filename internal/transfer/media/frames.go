package media

// Bit rates in kbit/s and sample rates in Hz of MPEG audio (ISO/IEC 11172-3, section
// 2.4.2.3; 13818-3), by the header's fields. 0 is not allowed, or unknown.
var (
	mpegRates = [2][3][16]int{
		{ // MPEG 1: layers I, II, III
			{0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448, 0},
			{0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 0},
			{0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0},
		},
		{ // MPEG 2 and 2.5
			{0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256, 0},
			{0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0},
			{0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0},
		},
	}
	mpegSamples = [4]int{44100, 48000, 32000, 0}
)

// mpegFrame is the length in bytes of the frame of MPEG audio that p starts with.
func mpegFrame(p []byte) (int, bool) {
	if len(p) < 4 || p[0] != 0xff || p[1]&0xe0 != 0xe0 {
		return 0, false
	}
	version, layer := p[1]>>3&3, 3-int(p[1]>>1&3) // version 3 is MPEG 1, 2 is MPEG 2, 0 is MPEG 2.5
	samples := mpegSamples[p[2]>>2&3]
	if version == 1 || layer == 3 || samples == 0 {
		return 0, false
	}
	old := 0
	if version != 3 {
		old, samples = 1, samples/2
		if version == 0 {
			samples /= 2
		}
	}
	rate, padding := 1000*mpegRates[old][layer][p[2]>>4], int(p[2]>>1&1)
	switch {
	case rate == 0:
		return 0, false
	case layer == 0:
		return (12*rate/samples + padding) * 4, true
	case layer == 2 && old == 1:
		return 72*rate/samples + padding, true
	}
	return 144*rate/samples + padding, true
}

// adts reports whether p starts like a frame of AAC (ISO/IEC 14496-3, section 1.A.2).
func adts(p []byte) bool {
	return len(p) >= 2 && p[0] == 0xff && p[1]&0xf6 == 0xf0
}

// adtsFrame is the length in bytes of the frame of AAC that p starts with.
func adtsFrame(p []byte) (int, bool) {
	if len(p) < 7 || !adts(p) || p[2]>>2&15 > 12 {
		return 0, false
	}
	n := int(p[3]&3)<<11 | int(p[4])<<3 | int(p[5])>>5
	return n, n >= 7
}
