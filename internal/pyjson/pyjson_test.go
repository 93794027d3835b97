package pyjson

import "testing"

func TestCase_A16_OnlyTheThreeWordsChange(t *testing.T) {
	for in, want := range map[string]string{
		`{"score": NaN}`:                `{"score": null}`,
		`[NaN,Infinity,-Infinity]`:      `[null,null,null]`,
		`{"a":-Infinity,"b":[1,NaN,2]}`: `{"a":null,"b":[1,null,2]}`,
		"NaN":                           "null",
		" Infinity \n":                  " null \n",
		`"NaN, Infinity"`:               `"NaN, Infinity"`,
		`{"NaN":"a\"NaN\\","b":NaN}`:    `{"NaN":"a\"NaN\\","b":null}`,
		`[NaNs, +Infinity, nan]`:        `[NaNs, +Infinity, nan]`,
		`{"a":"NaN`:                     `{"a":"NaN`,
		`{}`:                            `{}`,
		``:                              ``,
	} {
		if got := string(Strict([]byte(in))); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}
