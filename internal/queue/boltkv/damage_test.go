package boltkv_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/assetd/assetd/internal/queue"
	"github.com/assetd/assetd/internal/queue/boltkv"
	"github.com/assetd/assetd/internal/queue/kv"
	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/testenv"
)

func filled(t testing.TB) string {
	t.Helper()
	dir := quick(t)
	q, err := queue.Open(dir, queue.Options{Now: noon})
	if err != nil {
		t.Fatal(err)
	}
	var in []run.HandIn
	for i := range 300 {
		in = append(in, run.HandIn{ID: run.ID(fmt.Sprintf("run-%03d", i)), Labels: map[string]string{"shot": strings.Repeat("7", 100)}})
	}
	if _, err := q.Add(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	for _, id := range []run.ID{"run-001", "run-002"} {
		v := run.Verdict{Answer: answerOf(id, 100), Terminal: true, At: noon()}
		if _, err := q.Answered(t.Context(), id, v); err != nil {
			t.Fatal(err)
		}
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

func inUse(t *testing.T, dir string) []byte {
	t.Helper()
	b, err := os.ReadFile(boltkv.Path(dir))
	if err != nil {
		t.Fatal(err)
	}
	page := os.Getpagesize()
	return b[:len(bytes.TrimRight(b, "\x00"))/page*page+2*page]
}

func TestDamageIsNamedAndNeverAnEmptyQueue(t *testing.T) {
	dir := filled(t)
	sound := inUse(t, dir)
	page := os.Getpagesize()
	zero := func(from, to int) func() []byte {
		return func() []byte {
			b := append([]byte(nil), sound...)
			clear(b[from:to])
			return b
		}
	}
	random := make([]byte, 64<<10)
	for i := range random {
		random[i] = byte(rand.Uint32())
	}
	foreign := filepath.Join(dir, "foreign")
	db, err := bolt.Open(foreign, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		make func() []byte
		want string // in the message
	}{
		"0 bytes":          {func() []byte { return nil }, "0 bytes"},
		"100 bytes":        {func() []byte { return sound[:100] }, "100 bytes"},
		"64 KiB of zeros":  {func() []byte { return make([]byte, 64<<10) }, "neither of its two heads"},
		"random bytes":     {func() []byte { return random }, "neither of its two heads"},
		"text":             {func() []byte { return []byte("run IDs\nabcd\n") }, "neither of its two heads"},
		"both heads bad":   {zero(0, 2*page), "neither of its two heads"},
		"body zeroed":      {zero(2*page, len(sound)), "page"},
		"cut short":        {func() []byte { return sound[:len(sound)/2/page*page] }, "cut short"},
		"another's bbolt":  {func() []byte { b, _ := os.ReadFile(foreign); return b }, "no queue of assetd"},
		"heads and a page": {func() []byte { return sound[:2*page+100] }, "cut short"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(boltkv.Path(dir), c.make(), 0o600); err != nil {
				t.Fatal(err)
			}
			for _, readOnly := range []bool{false, true} {
				q, err := queue.Open(dir, queue.Options{ReadOnly: readOnly})
				damage := (*kv.DamageError)(nil)
				if !errors.As(err, &damage) {
					if err == nil {
						_ = q.Close()
					}
					t.Fatalf("%v", err)
				}
				if damage.File != boltkv.Path(dir) || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "assetd check --adopt-volume") {
					t.Errorf("%v", err)
				}
			}
			if b, err := os.ReadFile(boltkv.Path(dir)); err != nil || string(b) != string(c.make()) {
				t.Errorf("the file was touched: %v", err)
			}
		})
	}
}

func TestOneBadHeadIsPassedOverWithAWarning(t *testing.T) {
	for head := range 2 {
		dir := filled(t)
		f, err := os.OpenFile(boltkv.Path(dir), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		page := os.Getpagesize()
		if _, err := f.WriteAt(make([]byte, page), int64(head*page)); err != nil {
			t.Fatal(err)
		}
		f.Close()
		q := opened(t, dir, queue.Options{})
		if w := strings.Join(q.Warnings(), "\n"); !strings.Contains(w, "one of its two heads is bad") {
			t.Errorf("head %d: warnings %q", head, w)
		}
		// One commit older at the most: the second answer may be gone.
		c := must(q.Counts(t.Context()))(t)
		if c.Runs[run.Waiting]+c.Runs[run.Downloading] != 300 || c.Assets[run.AssetWaiting] < 100 {
			t.Errorf("head %d: %v", head, c)
		}
		add(t, q, "another") // which bbolt's check looks at, and it wants both heads
		if err := q.Close(); err != nil {
			t.Fatal(err)
		}
		if q = opened(t, dir, queue.Options{}); len(q.Warnings()) != 0 {
			t.Errorf("head %d is not mended: %q", head, q.Warnings())
		}
	}
}

func TestNoDamageEndsTheProcess(t *testing.T) {
	dir := filled(t)
	sound := inUse(t, dir)
	bad := 0
	for seed := range uint64(testenv.Cases(60, 250)) {
		r := rand.New(rand.NewPCG(seed, 1))
		b := append([]byte(nil), sound...)
		if at := r.IntN(len(sound) - os.Getpagesize()); seed%2 == 0 {
			b[at] ^= 1 << r.IntN(8)
		} else {
			for i := at; i < min(at+512, len(b)); i++ {
				b[i] = byte(r.Uint32())
			}
		}
		if err := os.WriteFile(boltkv.Path(dir), b, 0o600); err != nil {
			t.Fatal(err)
		}
		q, err := queue.Open(dir, queue.Options{})
		if err != nil {
			bad++
			continue
		}
		if q.Audit(context.Background()) != nil {
			bad++
		}
		_, _ = q.Add(t.Context(), []run.HandIn{{ID: "run-001"}, {ID: "another"}})
		_ = q.Close()
	}
	if bad == 0 {
		t.Error("nothing was damaged")
	}
}

func TestAFileCutShortUnderTheQueueIsAnError(t *testing.T) {
	for name, use := range map[string]func(*queue.Queue) error{
		"read": func(q *queue.Queue) error {
			_, err := q.List(t.Context(), "", "", 1000)
			return err
		},
		"write": func(q *queue.Queue) error {
			_, err := q.Add(t.Context(), []run.HandIn{{ID: "another"}})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filled(t)
			q, err := queue.Open(dir, queue.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Truncate(boltkv.Path(dir), int64(3*os.Getpagesize())); err != nil {
				t.Fatal(err)
			}
			damage := (*kv.DamageError)(nil)
			if err := use(q); !errors.As(err, &damage) || !strings.Contains(err.Error(), "its pages do not fit together") {
				t.Errorf("%v", err)
			}
			if q.Err() == nil {
				t.Error("not dead")
			}
			_ = q.Close()
		})
	}
}

func TestAPageThatLeadsAstrayIsDamage(t *testing.T) {
	dir := filled(t)
	sound := inUse(t, dir)
	page := os.Getpagesize()
	inUse, _, err := boltkv.UsedPages(bytes.NewReader(sound))
	if err != nil {
		t.Fatal(err)
	}
	first := func(flag uint16) int { // the first page of a kind that is in use
		for at := 2 * page; at < len(sound); at += page {
			if slices.Contains(inUse, at/page) && binary.NativeEndian.Uint16(sound[at+8:]) == flag && binary.NativeEndian.Uint16(sound[at+10:]) > 1 {
				return at
			}
		}
		t.Fatalf("no page with flag %#x", flag)
		return 0
	}
	for name, c := range map[string]struct {
		at    int
		value uint64
		want  string
	}{
		"round in circles":       {first(boltkv.FlagBranch) + boltkv.PageHeader + 8, uint64(first(boltkv.FlagBranch) / page), "used twice"},
		"out of the file":        {first(boltkv.FlagBranch) + boltkv.PageHeader + 8, 1 << 50, "outside of the file"},
		"to the heads":           {first(boltkv.FlagBranch) + boltkv.PageHeader + 8, 1, "outside of the file"},
		"key beyond the page":    {first(boltkv.FlagBranch) + boltkv.PageHeader, 1<<31 | 1<<63, "out of the page"},
		"value beyond the page":  {first(boltkv.FlagLeaf) + boltkv.PageHeader + 8, 1<<31 | 1<<63, "out of the page"},
		"free page beyond it":    {first(boltkv.FlagFreelist) + boltkv.PageHeader, 1 << 50, "outside of the file"},
		"page of many more":      {first(boltkv.FlagLeaf) + 8, boltkv.FlagLeaf | 1<<16 | 1<<40, "more"},
		"more elements than fit": {first(boltkv.FlagLeaf) + 8, boltkv.FlagLeaf | 0xFFFE<<16, "elements"},
	} {
		t.Run(name, func(t *testing.T) {
			b := bytes.Clone(sound)
			binary.NativeEndian.PutUint64(b[c.at:], c.value)
			if err := os.WriteFile(boltkv.Path(dir), b, 0o600); err != nil {
				t.Fatal(err)
			}
			q, err := queue.Open(dir, queue.Options{})
			if err == nil {
				_ = q.Close()
			}
			if !errors.As(err, new(*kv.DamageError)) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v", err)
			}
		})
	}
}
