package manifest

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/assetd/assetd/internal/run"
)

// pieces notes how much comes at a time.
type pieces struct {
	strings.Builder
	largest int
}

func (p *pieces) Write(b []byte) (int, error) {
	p.largest = max(p.largest, len(b))
	return p.Builder.Write(b)
}

// manyAssets are the assets of a run as the queue and the API have them.
func manyAssets(id run.ID, n int) ([]run.Asset, run.Answer) {
	var assets []run.Asset
	var answer run.Answer
	for i := range n {
		name := fmt.Sprintf("a%05d", i)
		assets = append(assets, run.Asset{
			Key: run.Key{Run: id, Kind: run.Images, ID: name}, State: run.AssetStored, Index: i + 1,
			Stored: &run.Stored{File: "images/" + name + ".png", Size: 3, SHA256: "00ff"},
		})
		answer.Assets = append(answer.Assets, run.Listed{
			Kind: run.Images, ID: name,
			Extra: map[string]json.RawMessage{"prompt": json.RawMessage(`"` + strings.Repeat("x", 300) + `"`)},
		})
	}
	return assets, answer
}

func TestAManifestIsWrittenAssetByAsset(t *testing.T) {
	const n = 2000
	assets, answer := manyAssets("run1", n)
	m := Build(run.Run{ID: "run1", Status: run.Completed}, assets, answer, 1, time.Unix(0, 0))
	var out, sums pieces
	if err := m.Write(&out); err != nil {
		t.Fatal(err)
	}
	if err := m.WriteSums(&sums); err != nil {
		t.Fatal(err)
	}
	if out.largest > 4<<10 || sums.largest > 4<<10 {
		t.Errorf("%d and %d bytes of %d and %d in one piece", out.largest, sums.largest, out.Len(), sums.Len())
	}
	read, err := Parse([]byte(out.String()))
	if err != nil || len(read.Assets) != n || *read.Assets[n-1].File != "images/a01999.png" {
		t.Errorf("%d assets read back, %v", len(read.Assets), err)
	}
	if got := strings.Count(out.String(), `"prompt"`); got != n {
		t.Errorf("%d of %d unknown fields", got, n)
	}
}

func TestAManifestIsIndentedWhateverItHolds(t *testing.T) {
	for _, n := range []int{0, 1, 2} {
		assets, answer := manyAssets("run1", n)
		answer.Extra = map[string]json.RawMessage{"nodes": json.RawMessage(`[1]`)}
		var out, want strings.Builder
		if err := Build(run.Run{ID: "run1"}, assets, answer, 1, time.Unix(0, 0)).Write(&out); err != nil {
			t.Fatal(err)
		}
		enc := json.NewEncoder(&want)
		enc.SetIndent("", "  ")
		if err := enc.Encode(json.RawMessage(out.String())); err != nil {
			t.Fatal(err)
		}
		if out.String() != want.String() {
			t.Errorf("%d assets:\n%s\nwant\n%s", n, out.String(), want.String())
		}
	}
}

func TestABatchHoldsOneRunOfManyAssets(t *testing.T) {
	w := newWorld()
	for _, id := range []run.ID{"big1", "big2", "big3"} {
		w.assets[id], w.answers[id] = manyAssets(id, mostAssets)
		for i := range w.assets[id] {
			w.files["app/"+string(id)+"/"+w.assets[id][i].Stored.File] = "png"
		}
		w.runs[id] = run.Run{
			ID: id, App: "app", State: run.Downloading, Status: run.Completed, EndedAt: time.Unix(1, 0),
			Assets: mostAssets, Stored: mostAssets, Dir: "app/" + string(id),
		}
	}
	w.settleFor(t, time.Second)
	if len(w.settled) != 4 {
		t.Errorf("settled %d of 4", len(w.settled))
	}
	if w.largest > 2 {
		t.Errorf("%d runs in one batch, %d of them with %d assets", w.largest, w.largest-1, mostAssets)
	}
}
