package queue

import (
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/assetd/assetd/internal/queue/kv"
	"github.com/assetd/assetd/internal/run"
)

// fill sets every field of a struct, those of a kind it does not know of too:
// then the test fails, and whoever added the field has to say how it is kept.
func fill(t *rapid.T, v reflect.Value, sparse bool) {
	if sparse && rapid.Bool().Draw(t, "left out") {
		return
	}
	if v.Type() == reflect.TypeFor[time.Time]() {
		ns := rapid.Int64Range(-1<<60, 1<<62).Draw(t, "time")
		v.Set(reflect.ValueOf(time.Unix(0, ns|1).UTC()))
		return
	}
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Uint64:
		v.SetUint(rapid.Uint64Min(1).Draw(t, "uint"))
	case reflect.Int, reflect.Int64:
		v.SetInt(rapid.Int64Min(1).Draw(t, "int"))
	case reflect.Float64:
		v.SetFloat(rapid.Float64().Draw(t, "float"))
	case reflect.String:
		v.SetString(rapid.StringMatching(`[^?#=%@_]{1,20}`).Draw(t, "text"))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(t, v.Elem(), false)
	case reflect.Struct:
		for i := range v.NumField() {
			fill(t, v.Field(i), sparse)
		}
	case reflect.Array:
		for i := range v.Len() {
			fill(t, v.Index(i), sparse)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), rapid.IntRange(1, 3).Draw(t, "length"), 3))
		for i := range v.Len() {
			fill(t, v.Index(i), false)
		}
	case reflect.Map:
		v.Set(reflect.ValueOf(rapid.MapOfN(rapid.String(), rapid.String(), 1, 3).Draw(t, "map")))
	default:
		t.Fatalf("a field of type %s", v.Type())
	}
}

func TestEveryFieldOfARunSurvivesTheFile(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sparse := rapid.Bool().Draw(t, "sparse")
		var want record
		fill(t, reflect.ValueOf(&want.Run).Elem(), sparse)
		want.State = rapid.SampledFrom(runStates()).Draw(t, "state")
		want.due = rapid.Int64Min(0).Draw(t, "due")
		want.given = [3]int64{1, 0, 1 << 40}
		got, err := decodeRun([]byte(want.ID), encodeRun(&want))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(record{})); diff != "" {
			t.Fatal(diff)
		}
	})
}

func TestEveryFieldOfAnAssetSurvivesTheFile(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sparse := rapid.Bool().Draw(t, "sparse")
		var want run.Asset
		fill(t, reflect.ValueOf(&want).Elem(), sparse)
		want.State = rapid.SampledFrom(assetStates()).Draw(t, "state")
		want.Key = run.Key{
			Run: "omps2OH829", Kind: rapid.SampledFrom(run.Kinds()).Draw(t, "kind"),
			ID: string(rapid.SliceOfN(rapid.Byte(), 0, 100).Draw(t, "id")),
		}
		got, err := decodeAsset(assetKey(want.Key), encodeAsset(&want))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(diff)
		}
	})
}

func TestEveryFieldOfANoticeSurvivesTheFile(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var want run.Notice
		fill(t, reflect.ValueOf(&want).Elem(), rapid.Bool().Draw(t, "sparse"))
		want.Seq = rapid.Uint64().Draw(t, "seq")
		want.Asset.Run = ""
		if want.Asset.ID != "" {
			want.Asset.Run = want.Run
		}
		got, err := decodeNotice(seqKey(want.Seq), encodeNotice(run.URLHook, want))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(diff)
		}
	})
}

func TestKeysOfAssetsNeverMeet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id := rapid.OneOf(
			rapid.StringN(0, 80, 200),
			rapid.Map(rapid.StringMatching(`[0-9a-f]{64}`), func(hex string) string { return hashPrefix + hex }),
		)
		kind := rapid.SampledFrom(run.Kinds())
		a := run.Key{Run: "abcd", Kind: kind.Draw(t, "kind a"), ID: id.Draw(t, "a")}
		b := run.Key{Run: "abcd", Kind: kind.Draw(t, "kind b"), ID: id.Draw(t, "b")}
		if (a == b) != (string(assetKey(a)) == string(assetKey(b))) {
			t.Fatalf("%q and %q: keys %q and %q", a, b, assetKey(a), assetKey(b))
		}
	})
}

// FuzzRecords holds that no bytes in the file make a reader panic, and that what
// is read can be written.
func FuzzRecords(f *testing.F) {
	r := record{Run: run.Run{ID: "abcd", State: run.Downloading, App: "app", EndedAt: time.Unix(9, 9), Labels: map[string]string{"a": "b"}}, due: 7}
	r.Polls = run.Polls{Count: 3, EmptyFor: run.Stopwatch{Total: 5, Running: true}}
	f.Add(encodeRun(&r))
	a := run.Asset{State: run.AssetStored, Width: new(3), Duration: new(2.5), Stored: &run.Stored{File: "f", Warnings: []string{"w"}}}
	a.Evidence.FinalFor = run.Stopwatch{Mark: 9}
	f.Add(encodeAsset(&a))
	f.Add(encodeNotice(run.URLHook, run.Notice{Kind: run.LostAsset, Run: "abcd", Asset: a.Key, Runs: []run.ID{"a"}}))
	f.Add([]byte{})
	f.Add([]byte{codecVersion, 0, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, value []byte) {
		if r, err := decodeRun([]byte("abcd"), value); err == nil {
			if again, err := decodeRun([]byte("abcd"), encodeRun(&r)); err != nil || !cmp.Equal(r, again, cmp.AllowUnexported(record{})) {
				t.Fatalf("%+v read again: %+v, %v", r, again, err)
			}
		} else if damage := (*kv.DamageError)(nil); !errors.As(err, &damage) {
			t.Fatal(err)
		}
		if a, err := decodeAsset([]byte("abcd/images/x"), value); err == nil {
			_ = encodeAsset(&a)
		}
		if n, err := decodeNotice(seqKey(1), value); err == nil {
			_ = encodeNotice(run.Hooks(value[1]), n)
		}
	})
}
