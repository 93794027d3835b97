package signedurl_test

import (
	"testing"

	"github.com/assetd/assetd/internal/signedurl"
)

const plain = "https://pikaso.cdnpk.net/private/production/1234567890/render.png"

func TestCase_A3_ObjectIsTheSameWhoeverSignedIt(t *testing.T) {
	want := signedurl.Object(plain)
	for _, url := range []string{
		plain + "?token=exp=1767225600~hmac=0123",
		plain + "?token=exp_1767225600~hmac_0123",
		plain + "?token=exp%3D1767225600%7Ehmac%3D0123",
		plain + "?hdnea=st=1~exp=2~acl=/*~hmac=ab",
		plain + "?any_name=exp=2~hmac=ab",
		plain + "?TOKEN=x&Expires=9",
		plain + "?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Date=20260101T000000Z&X-Amz-Expires=60&X-Amz-Signature=ff&X-Amz-Credential=a%2Fb",
		plain + "?X-Goog-Algorithm=x&X-Goog-Signature=ff&X-Goog-Expires=1",
		plain + "?Policy=abc&Signature=def&Key-Pair-Id=K",
		plain + "?sv=2020&sr=b&sig=x%2By&se=2026-01-01T00%3A00%3A00Z&sp=r",
		plain + "#fragment",
		"https://other.example:8443/private/production/1234567890/render.png?token=x",
		"https://user:pw@cdn.example/private/production/1234567890/render.png",
		"https://cdn.example/private/production/1234567890/render%2Epng",
	} {
		if got := signedurl.Object(url); got != want {
			t.Errorf("%s is another object", url)
		}
	}
	if signedurl.Object(plain+"?a=1&b=2&token=x") != signedurl.Object(plain+"?token=y&b=2&a=1") {
		t.Error("the order of parameters counts")
	}
	seen := map[string]string{}
	for _, url := range []string{
		plain, plain + "?preview=true", plain + "?size=420", plain + "?size=421", plain + "?v=2", plain + "?preview=true&size=420", plain + "/", "", "?",
		"https://pikaso.cdnpk.net/private/production/1234567891/render.png", "https://pikaso.cdnpk.net/thumbs/render.png", "https://pikaso.cdnpk.net",
	} {
		got := signedurl.Object(url)
		if other, ok := seen[got]; ok && !(url == "?" && other == "") {
			t.Errorf("%q and %q are one object", url, other)
		}
		seen[got] = url
	}
}

func TestCase_A3_PreviewIsWhatLeadsToLess(t *testing.T) {
	for url, want := range map[string]bool{
		plain: false,
		plain + "?token=exp=1~hmac=2&preview=true&size=420": true,
		plain + "?preview=true":                             true,
		plain + "?preview":                                  true,
		plain + "?Preview=1":                                true,
		plain + "?preview%3Dtrue":                           true,
		plain + "?preview=false&token=x":                    false,
		plain + "?size=420":                                 true,
		plain + "?size=original":                            false,
		plain + "?w=640&h=480":                              true,
		plain + "?width=640":                                true,
		plain + "?quality=60":                               true,
		plain + "?q=100":                                    false,
		plain + "?thumb=1;token=x":                          true,
		plain + "?variant=thumbnail":                        true,
		plain + "?variant=hd":                               false,
		plain + "?token=x&take=2":                           false,
		plain + "?X-Amz-Expires=60&X-Amz-Signature=f":       false,
		"https://cdn.example/previews/1/render.png":         true,
		"https://cdn.example/1/render-preview.png":          true,
		"https://cdn.example/1/render_thumb.png":            true,
		"https://cdn.example/1/THUMBNAIL.png":               true,
		"https://cdn.example/1/previewer.png":               false,
		"https://preview.example/1/render.png":              false,
		"https://cdn.example/1/poster.png":                  false,
		"":                                                  false,
		"%zz?%zz=%":                                         false,
	} {
		if got := signedurl.Preview(url); got != want {
			t.Errorf("%s: %v, want %v", url, got, want)
		}
	}
}

func FuzzObject(f *testing.F) {
	f.Add(plain + "?token=exp%3D1~hmac=2&preview=true;%zz#")
	f.Fuzz(func(t *testing.T, url string) {
		if len(signedurl.Object(url)) != 16 {
			t.Errorf("%q", signedurl.Object(url))
		}
		signedurl.Preview(url)
	})
}
