package queue

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math"
	"slices"
	"time"

	"github.com/assetd/assetd/internal/run"
)

// What is remembered of apps is bounded: each app by its last samples, and the
// apps by dropping the one that has had none for the longest time.
const (
	samplesMost = 64
	appsMost    = 1000
)

// app is how the last runs of an app went, the newest last.
type app struct {
	at      int64 // of the last one, unix ms by the API's clock
	samples []run.Sample
}

// Samples are how the last runs of an app went, the newest last: at most 64 of
// them. They come with the verdicts given to Answered.
func (q *Queue) Samples(name string) (samples []run.Sample, err error) {
	err = q.view(context.Background(), func(t *txn) error {
		a, err := t.app(appKey(name))
		samples = a.samples
		return err
	})
	return samples, err
}

// appKey is where an app stands. Only a plain name stands there as it is: what
// else the API may say could be a URL.
func appKey(name string) []byte {
	if !run.ValidID(name) {
		sum := sha256.Sum256([]byte(name))
		name = hashPrefix + hex.EncodeToString(sum[:])
	}
	return []byte(keyApp + name)
}

func (t *txn) app(key []byte) (app, error) {
	value := t.get(bMeta, key)
	if value == nil {
		return app{}, nil
	}
	a, err := decodeApp(value)
	if err != nil {
		return app{}, broken("app", key, err)
	}
	return a, nil
}

// sample adds one to those of an app.
func (t *txn) sample(name string, s run.Sample, at time.Time) error {
	key := appKey(name)
	a, err := t.app(key)
	if err != nil {
		return err
	}
	if len(a.samples) == 0 {
		if err := t.dropApp(); err != nil {
			return err
		}
	}
	a.samples = append(a.samples[max(0, len(a.samples)+1-samplesMost):], s)
	a.at = max(a.at, millis(at))
	return t.put(bMeta, key, encodeApp(a))
}

// dropApp makes room for one more app.
func (t *txn) dropApp() error {
	prefix, known := []byte(keyApp), 0
	var oldest []byte
	first := int64(math.MaxInt64)
	c := t.tx.Cursor(bMeta)
	for k, v := c.Seek(prefix); bytes.HasPrefix(k, prefix); k, v = c.Next() {
		a, err := decodeApp(v)
		if err != nil {
			return broken("app", k, err)
		}
		if known++; a.at < first {
			first, oldest = a.at, slices.Clone(k)
		}
	}
	if known < appsMost {
		return nil
	}
	return t.del(bMeta, oldest)
}

// encodeApp writes the time, then each sample: how long it took in milliseconds,
// and its URLs' life in seconds.
func encodeApp(a app) []byte {
	b := binary.AppendUvarint([]byte{codecVersion}, uint64(max(a.at, 0)))
	for _, s := range a.samples {
		b = binary.AppendUvarint(b, uint64(max(s.Took, 0)/time.Millisecond))
		b = binary.AppendUvarint(b, uint64(max(s.Life, 0)/time.Second))
	}
	return b
}

func decodeApp(value []byte) (app, error) {
	if len(value) < 2 || value[0] != codecVersion {
		return app{}, errCodec
	}
	d := decoder{b: value[1:]}
	a := app{at: int64(d.uvarint())}
	for d.err == nil && len(d.b) > 0 {
		took, life := d.uvarint(), d.uvarint()
		a.samples = append(a.samples, run.Sample{Took: length(took, time.Millisecond), Life: length(life, time.Second)})
	}
	return a, d.err
}

// length is a number of units, or the most there is.
func length(n uint64, unit time.Duration) time.Duration {
	return time.Duration(min(n, uint64(math.MaxInt64/unit))) * unit
}
