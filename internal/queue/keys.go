package queue

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"strings"
	"time"

	"github.com/assetd/assetd/internal/queue/kv"
	"github.com/assetd/assetd/internal/run"
)

// The buckets. Times in keys are unix milliseconds, 8 bytes big
// endian, so that the next one due is always the first key.
const (
	bMeta     kv.Bucket = iota // id, counts, service, copied, volume/<dir>, proof/<fingerprint>, app/<name>, cuts/<host>, removed/<run>, clear/<hash>, stands/<trouble>, damaged/<run>
	bRuns                      // <run> → record
	bAssets                    // <run>/<kind>/<id> → asset
	bDue                       // runs to poll: <time><run>, and by submission where they had no answer yet (turns.go)
	bReady                     // <run>: ended, nothing open, not settled
	bDeadline                  // <time><asset>: waiting assets
	bVerified                  // <asset>: verified, not yet stored
	bNames                     // <run>/<file in one case> → asset key
	bDirs                      // <directory in one case> → run
	bHistory                   // <time><run>: settled runs
	bOutbox                    // <seq, 8 bytes big endian> → notice that others are still to be told
	buckets
)

func bucketName(b kv.Bucket) string {
	return [buckets]string{
		"meta", "run", "asset", "due", "ready", "deadline", "verified", "name", "dir", "history", "outbox",
	}[b]
}

// Keys of bMeta.
const (
	keyID      = "id"
	keyCounts  = "counts"
	keyService = "service"
	keyLast    = "submissions" // the number of the last one
	keyVolume  = "volume/"     // followed by the directory
	keyProof   = "proof/"      // followed by the fingerprint
	keyApp     = "app/"        // followed by its name, or the hash of one that is not plain
	keyCuts    = "cuts/"       // followed by the host
	keyRemoved = "removed/"    // followed by the run
	keyClear   = "clear/"      // followed by the asset's run.Key.Hash
	keyStands  = "stands/"     // followed by the trouble others were told of and not yet of its end
	keyDamaged = "damaged/"    // followed by the run: how many of its files verify found damaged or missing
	keyCopied  = "copied"      // in a copy: when it was begun
)

// maxLiteral is the longest asset id that stands in a key as it is; longer ones
// are hashed. The hashed form is longer than that, so the two cannot meet.
const maxLiteral = 64

const hashPrefix = "sha256:"

// assetKey is <run>/<kind>/<id>. A run ID and a kind hold no slash.
func assetKey(k run.Key) []byte {
	id := k.ID
	if len(id) > maxLiteral {
		sum := sha256.Sum256([]byte(id))
		id = hashPrefix + hex.EncodeToString(sum[:])
	}
	return []byte(string(k.Run) + "/" + string(k.Kind) + "/" + id)
}

// assetsOf is the prefix of a run's assets.
func assetsOf(id run.ID) []byte { return []byte(string(id) + "/") }

// millis is a time as keys have it; what lies before 1970 comes first, at 1:
// 0 says that there is none.
func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return max(t.UnixMilli(), 1)
}

// timed is a key that sorts by time, then by what follows it.
func timed(ms int64, rest string) []byte {
	k := make([]byte, 8, 8+len(rest))
	binary.BigEndian.PutUint64(k, uint64(ms))
	return append(k, rest...)
}

// untimed takes such a key apart; ok is false where it is none.
func untimed(key []byte) (ms int64, rest []byte, ok bool) {
	if len(key) < 8 {
		return 0, nil, false
	}
	return int64(binary.BigEndian.Uint64(key)), key[8:], true
}

// oneCase is a name as a file system without regard to case sees it. Upper
// first: the long s, for one, is its own lower case but shares its upper one.
func oneCase(name string) string { return strings.ToLower(strings.ToUpper(name)) }

// nameKey is where a run's file name is claimed.
func nameKey(id run.ID, file string) []byte {
	return []byte(string(id) + "/" + oneCase(file))
}
