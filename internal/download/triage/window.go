package triage

import "time"

// The figures that Decide uses where the caller has none of its own. Opening,
// trickle and small were measured on nginx, Apache, haproxy and varnish with Go's
// client; no content network was among them.
const (
	opening      = 95_000          // bytes a connection takes in before it can be held back, default buffers
	leastTrickle = 512 << 10 / 25  // bytes/s that kept responses alive under the common timeout of 60 s
	mostTrickle  = 256 << 10 / 4   // bytes/s that did under a timeout of 10 s
	small        = 512 << 10       // bytes; not more than this is read to its end and never held
	someLatency  = 0.1             // seconds from a request to its first byte
	openLead     = 1.0             // seconds before expiry by which a held one should be open
	longHeld     = 5 * time.Minute // some servers end every response after 10 minutes
)

// State is what happens to an asset now.
type State uint8

// What can happen to it.
const (
	Waiting State = iota // no connection is open for it
	Running              // it is read as fast as it comes
	Held                 // it is open, and read at a trickle
)

// Server is what is known of a host.
type Server struct {
	// Rate is what the host brings at most over all connections, in bytes/s. Only
	// where more connections were seen to bring no more; 0: the link is the limit.
	Rate int64
	// Conn is what one connection brings at most, in bytes/s, seen where it was
	// not the link that kept it from more; 0: not known, and then two are taken to
	// fill the host.
	Conn    int64
	Latency time.Duration // from a request to its first byte; 0: not known
	Trickle int64         // bytes/s that keep a held response of it alive; 0: not known
	Cuts    bool          // it was seen to end a response when the URL expired
}

// Asset is an asset whose URL may expire before it is there.
type Asset struct {
	Server   int           // in Window.Servers
	Bytes    int64         // that are still to come: known, or as many as such assets usually weigh
	Spread   int64         // standard deviation of Bytes; 0: they are known
	Expiry   time.Duration // of its URL, by its server's clock
	Deadline time.Duration // its place in the order
	Unknown  bool          // Expiry is a guess: urgent, but nothing else is lost for it
	State    State
	Opened   time.Duration // since when its connection is open, if it is
	Whole    bool          // it can only be fetched whole: what was read is lost when it is stopped
	Renews   bool          // a fresh URL is likely to be had when this one has expired
}

// Window is the input of Decide: the assets that expire first, and all that are
// running or held. All times are on one monotonic timeline. Figures out of their
// ranges are taken for the nearest that is in it.
type Window struct {
	Now     time.Duration
	Rate    int64 // of the link, in bytes/s; 0: not known
	Workers int   // transfers at a time, at least 1
	MaxOpen int   // connections at a time next to those at full speed; 0: nothing is held
	Opening int64 // bytes that a connection takes in before it can be held back; 0: 95,000
	Scarce  bool  // the decision before this one was not plain
	Servers []Server
	Assets  []Asset
}

// Decision says what to do with the assets of a window; numbers are indices of
// Window.Assets. Unless it is plain, each of them is in exactly one of Finish,
// Open, Hold, Stop, Next and Last.
type Decision struct {
	// Plain: earliest deadline first, with all workers, stores everything in
	// time, or nothing can be said yet. Only Again is set with it.
	Plain bool
	// Finish is what is read as fast as it comes from now on, most urgent first:
	// those that wait are started, held ones resumed. Nothing else is.
	Finish []int
	// Open is what is started now, in this order, and held from then on.
	Open []int
	// Hold is what is open and read at Trickle from now on, in the order in which
	// it should be finished.
	Hold []int
	// Stop is what is running and is stopped now. Its part is kept.
	Stop []int
	// Next is what waits for its turn, in that order: where one of Finish ends
	// before the next decision and less than AtOnce are left, the first of these
	// is started.
	Next []int
	// Last is what can be neither finished nor held now, likeliest first: it is
	// started when all else is, and fresh URLs are asked for when it has expired.
	Last []int
	// Ask is whose size is worth asking for, in this order, before it is started.
	// It is a part of Next and Last.
	Ask     []int
	AtOnce  int   // as many at full speed at a time as fill the link, 1 to Workers
	Trickle int64 // bytes/s to read of each held one
	Again   time.Duration
	Risks   []Risk
}

// Risk is why assets may not be there before their URLs expire.
type Risk struct {
	Server int           // whose rate is too low, in Window.Servers; -1: it is the link's
	Rate   int64         // that rate, in bytes/s
	Assets []int         // first to expire first
	Held   int           // how many of them are or will be held, and so have a good chance
	Bytes  int64         // of theirs that are still to come
	Left   time.Duration // until the first of them expires
	Needed time.Duration // to move all that expire no later than the last of them, at that rate
}
