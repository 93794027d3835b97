package magnific

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"
)

func TestCase_A17_URLsAreCleanedWhereTheyAreRead(t *testing.T) {
	const plain = "https://cdn.test/a.png?token=exp=1772064000~hmac=0f"
	for _, raw := range []string{plain + "\n", "  " + plain, "\ufeff" + plain + "\r\n", plain[len("https:"):], "\t" + plain[len("https:"):] + "\x00"} {
		text, err := json.Marshal(raw)
		if err != nil {
			t.Fatal(err)
		}
		for _, form := range []string{`[{"id":"a","url":%s}]`, `{"id":"a","url":%s}`, `[%s]`} {
			a, err := Parse([]byte(`{"data":{"status":"completed","result":{"images":` + fmt.Sprintf(form, text) + `}}}`))
			if err != nil || len(a.Assets) != 1 {
				t.Fatalf("%q in %s: %+v, %v", raw, form, a, err)
			}
			l := a.Assets[0]
			if l.URL != plain || l.Source != "https://cdn.test/a.png" || !l.Expiry.Equal(time.Unix(1772064000, 0)) {
				t.Errorf("%q in %s: %+v", raw, form, l)
			}
		}
	}
	a, err := Parse([]byte(`{"status":"completed","result":{"images":[{"id":"a","url":" \n"}]}}`))
	if err != nil || len(a.Assets) != 1 || a.Assets[0].URL != "" || a.Assets[0].Source != "" {
		t.Errorf("blanks alone: %+v, %v", a, err)
	}
}

// A file in the answer and the same file with another ending are one asset.
func TestCase_A17_TheSameURLTwiceIsOneAsset(t *testing.T) {
	a, err := Parse([]byte(`{"status":"completed","result":{"images":[{"id":"a","url":"https://cdn.test/a.png?x"},{"id":"a","url":" https://cdn.test/a.png?x\n"}]}}`))
	if err != nil || len(a.Assets) != 1 {
		t.Errorf("%+v, %v", a, err)
	}
}

func TestCase_A18_DataURLIsAnAsset(t *testing.T) {
	for _, form := range []string{`[{"id":"a","url":%q}]`, `{"id":"a","url":%q}`, `[%q]`} {
		for _, raw := range []string{"data:image/png;base64,iVBORw0KGgo=", "DATA:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg'/>", " data:;base64,AAAA"} {
			a, err := Parse([]byte(`{"status":"completed","result":{"images":` + fmt.Sprintf(form, raw) + `}}`))
			if err != nil || len(a.Assets) != 1 || a.Assets[0].Source != "data:" || !a.Assets[0].Expiry.IsZero() {
				t.Errorf("%s: %+v, %v", raw, a, err)
			}
		}
	}
	// Two pictures under one id differ in what they hold.
	a, err := Parse([]byte(`{"status":"completed","result":{"images":[{"id":"a","url":"data:,<?xml 1"},{"id":"a","url":"data:,<?xml 2"}]}}`))
	if err != nil || len(a.Assets) != 2 || a.Assets[1].ID != "a#2" {
		t.Errorf("%+v, %v", a, err)
	}
}
