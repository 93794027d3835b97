package media

import (
	"bytes"
	"image"
	"image/png"
)

// pixelsPNG is a complete PNG of that size.
func pixelsPNG(width, height int) []byte {
	var b bytes.Buffer
	if err := png.Encode(&b, image.NewGray(image.Rect(0, 0, width, height))); err != nil {
		panic(err)
	}
	return b.Bytes()
}

var utf16Text = []byte("\xff\xfeh\x00e\x00l\x00l\x00o\x00 \x00w\x00o\x00r\x00l\x00d\x00")
