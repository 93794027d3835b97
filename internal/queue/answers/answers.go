// Package answers keeps the last answer of the API about each open run: one JSON
// file per run in <state.dir>/answers, readable by the daemon's user alone, since
// answers hold signed URLs.
//
// A file is replaced atomically but not synced: an answer that is lost in a crash,
// like one that cannot be parsed, is as if it had never been given, and the API is
// asked again. Parsed files are cached.
package answers

import (
	"bufio"
	"container/list"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/assetd/assetd/internal/durable"
	"github.com/assetd/assetd/internal/run"
)

// cacheBytes bounds the answer files whose parsed form is kept, by their size on
// disk. The last one used is kept whatever its size.
const cacheBytes = 4 << 20

const answerExt = ".json"

// Store holds the answer files of a state directory. It is safe for concurrent use.
// A run has one of a few locks for the time that its file is read or written: a file
// that waits for a busy disk holds up few others, and none that is in the cache.
type Store struct {
	dir   string
	files [64]sync.Mutex // before mu

	writers sync.Pool // of *bufio.Writer

	mu    sync.Mutex
	known map[run.ID]*list.Element // of *answer
	order list.List                // the last one used first
	bytes int64
}

// answer is a parsed file. It is never changed, only replaced.
type answer struct {
	run.Answer
	size   int64
	listed map[assetName]int // place in Assets
}

type assetName struct {
	kind run.Kind
	id   string
}

// New returns the store of a state directory. It touches no file: the directory is
// made with the first answer.
func New(stateDir string) *Store {
	return &Store{
		dir: Dir(stateDir), known: make(map[run.ID]*list.Element),
		writers: sync.Pool{New: func() any { return bufio.NewWriterSize(nil, 64<<10) }},
	}
}

// Dir is the directory of the answers below a state directory.
func Dir(stateDir string) string { return filepath.Join(stateDir, "answers") }

// Get returns all answers about a run, united; false where there is none: not yet
// asked, lost, damaged or removed. The value is shared and must not be changed.
func (s *Store) Get(id run.ID) (run.Answer, bool, error) {
	a, err := s.get(id)
	if a == nil {
		return run.Answer{}, false, err
	}
	return a.Answer, true, nil
}

// Listed returns the part of a run's answer that is about one asset, at the same
// cost however many assets the run has.
func (s *Store) Listed(key run.Key) (run.Listed, bool, error) {
	a, err := s.get(key.Run)
	if a == nil {
		return run.Listed{}, false, err
	}
	i, ok := a.listed[assetName{key.Kind, key.ID}]
	if !ok {
		return run.Listed{}, false, nil
	}
	return a.Assets[i], true, nil
}

// path is a run's file. IDs that differ by case alone share one where the file
// system knows no case: each finds the other's answer in it, takes that for none,
// and asks again.
func (s *Store) path(id run.ID) string { return filepath.Join(s.dir, string(id)+answerExt) }

// file is the lock of a run's file.
func (s *Store) file(id run.ID) *sync.Mutex {
	h := fnv.New32a()
	_, _ = h.Write([]byte(id))
	return &s.files[h.Sum32()%uint32(len(s.files))]
}

func (s *Store) get(id run.ID) (*answer, error) {
	if a := s.cached(id); a != nil {
		return a, nil
	}
	file := s.file(id)
	file.Lock()
	defer file.Unlock()
	return s.load(id)
}

// cached is the answer in the cache; nil: none is there.
func (s *Store) cached(id run.ID) *answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.known[id]
	if !ok {
		return nil
	}
	s.order.MoveToFront(e)
	return e.Value.(*answer)
}

// load returns the answer from the cache or the file; nil: none. The file is locked.
func (s *Store) load(id run.ID) (*answer, error) {
	if a := s.cached(id); a != nil {
		return a, nil
	}
	if !run.ValidID(string(id)) {
		return nil, nil
	}
	data, err := os.ReadFile(s.path(id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("answer of run %q: %w", id, err)
	}
	var a run.Answer
	if json.Unmarshal(data, &a) != nil || a.Run != id {
		return nil, nil
	}
	return s.keep(a, int64(len(data))), nil
}

// keep puts a parsed answer into the cache and drops those used least lately. The
// file is locked.
func (s *Store) keep(a run.Answer, size int64) *answer {
	parsed := &answer{Answer: a, size: size, listed: make(map[assetName]int, len(a.Assets))}
	for i, l := range a.Assets {
		parsed.listed[assetName{l.Kind, l.ID}] = i
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop(a.Run)
	s.known[a.Run] = s.order.PushFront(parsed)
	for s.bytes += size; s.bytes > cacheBytes && s.order.Len() > 1; {
		s.drop(s.order.Back().Value.(*answer).Run)
	}
	return parsed
}

// drop takes an answer out of the cache. The cache is locked.
func (s *Store) drop(id run.ID) {
	if e, ok := s.known[id]; ok {
		s.bytes -= s.order.Remove(e).(*answer).size
		delete(s.known, id)
	}
}

// Save unites an answer with those before it and writes the result, which may not
// outlive power loss.
func (s *Store) Save(id run.ID, fresh run.Answer) error {
	if !run.ValidID(string(id)) {
		return fmt.Errorf("%.70q is no run ID", id)
	}
	file := s.file(id)
	file.Lock()
	defer file.Unlock()
	if old, err := s.load(id); err != nil {
		return err
	} else if old != nil {
		fresh = old.Unite(fresh)
	}
	fresh.Run = id
	size, err := s.write(id, fresh)
	if err != nil {
		return err
	}
	s.keep(fresh, size)
	return nil
}

// write replaces a file atomically, and says how many bytes it has. The directory
// is made at the first one.
func (s *Store) write(id run.ID, a run.Answer) (size int64, err error) {
	f, err := os.CreateTemp(s.dir, ".*.tmp") // 0600
	if errors.Is(err, fs.ErrNotExist) {
		if _, err = durable.MkdirAll(s.dir, 0o700); err == nil {
			f, err = os.CreateTemp(s.dir, ".*.tmp")
		}
	}
	if err != nil {
		return 0, err
	}
	err = s.encode(f, a)
	if err == nil {
		size, err = f.Seek(0, io.SeekCurrent)
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), s.path(id))
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return size, err
}

// encode writes an answer as JSON, with one asset in memory at a time: it may list
// 20,000 of them.
func (s *Store) encode(f io.Writer, a run.Answer) error {
	assets := a.Assets
	a.Assets = nil // left out of the head, they come last
	head, err := json.Marshal(a)
	if err != nil {
		return fmt.Errorf("answer of run %q: %w", a.Run, err)
	}
	w := s.writers.Get().(*bufio.Writer)
	w.Reset(f)
	defer func() {
		w.Reset(nil)
		s.writers.Put(w)
	}()
	_, _ = w.Write(head[:len(head)-len("}")]) // Flush returns the first error
	for i, l := range assets {
		data, err := json.Marshal(l)
		if err != nil {
			return fmt.Errorf("answer of run %q: %w", a.Run, err)
		}
		before := ","
		if i == 0 {
			before = `,"assets":[`
		}
		_, _ = w.WriteString(before)
		_, _ = w.Write(data)
	}
	if len(assets) > 0 {
		_ = w.WriteByte(']')
	}
	_ = w.WriteByte('}')
	return w.Flush()
}

// Remove removes the answers of these runs. A file that cannot be removed now is
// removed by the next Sweep.
func (s *Store) Remove(ids ...run.ID) {
	for _, id := range ids {
		s.forget(id)
	}
}

func (s *Store) forget(id run.ID) {
	file := s.file(id)
	file.Lock()
	defer file.Unlock()
	s.mu.Lock()
	s.drop(id)
	s.mu.Unlock()
	_ = os.Remove(s.path(id))
}

// Sweep removes what a crash left behind: half written files, and the answers of all
// runs but those that keep reports true for.
func (s *Store) Sweep(keep func(run.ID) bool) error {
	if err := os.Chmod(s.dir, 0o700); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	entries, err := os.ReadDir(s.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		id, ok := strings.CutSuffix(e.Name(), answerExt)
		if !ok || !run.ValidID(id) || !keep(run.ID(id)) {
			_ = os.Remove(filepath.Join(s.dir, e.Name()))
		}
	}
	return nil
}
