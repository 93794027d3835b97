package transfer

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/signedurl"
	"github.com/assetd/assetd/internal/transfer/media"
)

// shortestGain is what a 206 that ends before the object does must have brought,
// in bytes, for the rest to be asked for at once: so requests are bounded.
const shortestGain = 1 << 20

// fetch is one transfer: queries, one after the other, until the part is whole.
type fetch struct {
	c        *Client
	cfg      *Config // as it was at the start
	req      Request
	part     Part
	progress func(done, total int64)
	mem      *buffer
	begun    atomic.Bool // a request was made
	cookies  cookies
	lengths  atomic.Bool // an answer's Content-Length was refused: see roundTrip

	have     int64 // bytes in the part that belong to the object
	mark     run.PartMark
	reserved int64 // bytes reserved and not yet written, where the size is not known
	small    bool  // the body is gathered in memory
	single   bool  // no more than one connection from now on
	rejoined bool  // one answer was asked for in place of several, to be held
	received int64
	proven   bool
	sums     *sums
	disputed error // the digest that the body contradicts, as the one before it did
	media    media.Type
	judged   bool        // media is known, from the head
	cut      bool        // the file has not all that it says it has
	unpack   bool        // what comes is compressed, whatever its header says
	layers   []string    // encodings that were decoded, outermost first
	unfound  []string    // encodings that the header names and the bytes do not have
	header   http.Header // of the last answer, as all that follow up to resumed
	status   int
	host     string
	ranged   bool // it was asked for with Range
	resumed  bool // and to go on with the part
	whole    run.Whole
}

// run asks until the part is whole. A resumed part is gone on with while the
// answers fit; one that does not fit leads to a plain request for everything, and
// after that to nothing further, so that this ends.
func (f *fetch) run(ctx context.Context) error {
	q, err := f.start()
	if err == nil && q == nil && f.req.Cut != "" {
		q, err = f.lookAgain(ctx)
	}
	if err == nil {
		err = f.fill(ctx, q)
	}
	if errors.Is(err, errPacked) {
		f.unpack = true
		err = f.fill(ctx, &query{all: true})
	}
	return err
}

// fill asks, beginning with that, until the part is whole, and judges it.
func (f *fetch) fill(ctx context.Context, q *query) error {
	for q != nil {
		a, err := f.ask(ctx, *q)
		if err != nil {
			return err
		}
		f.header, f.host, f.status = a.resp.Header, a.at.host, a.resp.StatusCode
		f.ranged, f.resumed = a.ranged, a.resumed
		if q, err = f.take(ctx, a, *q); err != nil {
			var known *Failure
			if !errors.As(err, &known) {
				err = a.failed(classify(err), err)
			}
			return err
		}
	}
	return f.finish(ctx)
}

// start looks at what the part holds: nil is a part that has everything already.
func (f *fetch) start() (*query, error) {
	have, mark := f.part.Have()
	if have <= 0 || mark.ETag == "" || mark.Total <= 0 || have > mark.Total || f.req.Plain && have < mark.Total {
		return &query{all: f.req.Plain}, nil
	}
	if mark.Object != "" && mark.Object != signedurl.Object(f.req.URL) {
		return &query{all: f.req.Plain}, nil // an ETag tells versions of one object apart (RFC 9110, 8.8.3)
	}
	if have == mark.Total && mark.Early && !f.req.Early {
		return &query{all: f.req.Plain}, nil // whole, but perhaps before the run's end: nobody would ask whether it is still the same
	}
	f.have, f.mark = have, mark
	if err := f.judge(); err != nil || f.media.Refused != "" {
		return &query{all: f.req.Plain}, nil // unreadable, compressed, or judged before: what comes now may be better
	}
	f.sums = newSums(nil, false)
	f.progress(have, mark.Total)
	if have == mark.Total {
		f.proven = true
		return nil, nil
	}
	f.sums = nil // begun with the first answer, whose digests decide what is hashed
	return &query{from: have, etag: mark.ETag}, nil
}

// take reads one answer into the part and says what to ask next; nil: nothing,
// the body has been read.
func (f *fetch) take(ctx context.Context, a *answer, q query) (*query, error) {
	told, tells := parseContentRange(a.resp.Header)
	size := a.resp.ContentLength
	switch status := a.resp.StatusCode; {
	case status == http.StatusPartialContent:
		if !tells || told.total < 0 || size >= 0 && size != told.length() || !f.follows(q, told, a.resp.Header) {
			return f.unfit(a, q, "a range that does not fit (Content-Range "+quote(a.resp.Header.Get("Content-Range"))+")")
		}
		return f.takeRange(ctx, a, q, told)
	case carriesAll(a.resp), status == http.StatusNoContent:
		if a.resp.Header.Get("Content-Range") != "" {
			if !tells || told.length() != told.total || size >= 0 && size != told.total {
				return f.unfit(a, q, "status 200 with a Content-Range that is not everything")
			}
			size = told.total
		}
		defer a.close()
		if done, err := f.takeEncoded(ctx, a, q, size); done || err != nil {
			return nil, err
		}
		if err := f.begin(a, size, size); err != nil {
			return nil, err
		}
		f.proven = size >= 0 || len(a.resp.TransferEncoding) > 0 // chunked: its end is known
		return nil, f.copy(ctx, a, size)
	case status == http.StatusPreconditionFailed:
		if q.from > 0 {
			return f.unfit(a, q, "412") // it knows no If-Range: the same request would get the same answer
		}
	case status == http.StatusRequestedRangeNotSatisfiable:
		if !q.all {
			return f.unfit(a, q, "416") // an empty object, or one that shrank: looked at without Range
		}
	}
	a.drain()
	return nil, a.refusal()
}

// carriesAll reports whether an answer says that the whole object follows: 200, or
// another success that is not known to be something else, which means the same (RFC
// 9110, section 15). With text it is a message, like "not yet" under 202.
func carriesAll(resp *http.Response) bool {
	switch resp.StatusCode {
	case http.StatusOK, http.StatusNonAuthoritativeInfo:
		return true
	case http.StatusNoContent, http.StatusResetContent, http.StatusPartialContent:
		return false
	}
	return resp.StatusCode/100 == 2 && resp.ContentLength != 0 && !media.IsMessage(resp.Header.Get("Content-Type"))
}

// follows reports whether a range is what was asked for: the rest of the very
// object that the part began with, byte for byte.
func (f *fetch) follows(q query, told contentRange, h http.Header) bool {
	switch {
	case told.first != q.from:
		return false
	case q.from > 0:
		return told.total == f.mark.Total && strong(h) == q.etag
	case q.all:
		return told.length() == told.total
	}
	return true
}

// quote is what a server said, in quotes, without secrets and great length.
func quote(s string) string {
	const most = 60 // bytes
	if s = signedurl.Redact(s); len(s) > most {
		s = s[:most]
	}
	return fmt.Sprintf("%q", s)
}

// unfit drops an answer that does not carry what was asked for: everything is
// asked for once more, without Range, and after that no more.
func (f *fetch) unfit(a *answer, q query, why string) (*query, error) {
	a.drain()
	if q.all {
		return nil, a.failed(Network, fmt.Errorf("asked for everything, it answered %s", why))
	}
	return &query{all: true}, nil
}

// takeRange reads a 206 that fits, and asks for the rest where it is a piece.
func (f *fetch) takeRange(ctx context.Context, a *answer, q query, told contentRange) (*query, error) {
	if q.from == 0 {
		done, err := f.takeEncoded(ctx, a, q, a.resp.ContentLength)
		switch {
		case errors.Is(err, errPacked): // a range of what is encoded, or something encoded that is called a range
			return f.unfit(a, q, "a range with Content-Encoding "+quote(a.resp.Header.Get("Content-Encoding")))
		case done || err != nil:
			a.close()
			return nil, err
		}
	}
	defer a.close()
	if q.from == 0 {
		if err := f.begin(a, told.total, told.length()); err != nil {
			return nil, err
		}
	} else if err := f.resume(a, told); err != nil {
		return nil, err
	}
	if f.divides(told) {
		return f.copyParallel(ctx, a, q, told)
	}
	if err := f.copy(ctx, a, told.length()); err != nil {
		return nil, err
	}
	return f.rest(a, q, told)
}

// rest says what to ask for behind a range that was read.
func (f *fetch) rest(a *answer, q query, told contentRange) (*query, error) {
	f.proven = f.have == f.mark.Total
	switch {
	case f.proven:
		return nil, nil
	case f.mark.ETag == "", q.from == 0 && told.length() < shortestGain:
		return &query{all: true}, nil
	case told.length() < shortestGain: // what there is, is worth more than a new beginning
		return nil, a.failed(Network, fmt.Errorf("sent %d bytes where %d were left", told.length(), f.mark.Total-q.from))
	}
	return &query{from: f.have, etag: f.mark.ETag}, nil
}

// finish hashes what is not hashed yet, holds the whole against what the server
// announced and judges it.
func (f *fetch) finish(ctx context.Context) error {
	err := f.sums.catchUp(ctx, f.part, f.have, f.have, f.mem.data[:])
	if err != nil {
		return f.damaged(ctx, Disk, err)
	}
	switch err := f.sums.check(); {
	case err == nil:
		f.proven = f.proven || len(f.sums.wants) > 0
	case f.sums.sha256() == f.req.Before && (media.Complete(f.part, f.have) || f.proven && !media.Truncated(f.part, f.have)):
		f.disputed = err
	default:
		return f.contradicted(ctx, err)
	}
	if err := f.judge(); err != nil {
		return err
	}
	f.media.Resolve(f.part, f.have, f.header.Get("Content-Type"), urlExtension(f.req.URL))
	if f.layers == nil {
		f.unfound = codings(f.header)
	}
	if len(f.unfound) > 0 && f.media.Refused == "" && !f.plainly() {
		f.media.Refused = fmt.Sprintf("the body is said to be encoded (%s) and cannot be decoded", quote(strings.Join(f.unfound, ", ")))
	}
	if f.media.Refused != "" {
		return f.notMedia()
	}
	f.cut = media.Truncated(f.part, f.have)
	f.describe()
	return nil
}

// damaged empties the part: under a good mark its bytes would be taken for the
// object's next time. A transfer that was stopped has damaged nothing.
func (f *fetch) damaged(ctx context.Context, class Class, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if reset := f.part.Reset(run.PartMark{Total: -1}); reset != nil {
		class, err = Disk, fmt.Errorf("%w; and the part cannot be emptied: %w", err, reset)
	}
	return f.answered(class, err)
}

// contradicted is the failure of a body whose bytes are not what the server
// announced: damaged on the way, unless the next fetch brings the same.
func (f *fetch) contradicted(ctx context.Context, err error) error {
	sha256 := f.sums.sha256()
	err = f.damaged(ctx, Network, err)
	var failure *Failure
	if errors.As(err, &failure) && failure.Class == Network {
		failure.SHA256 = sha256
	}
	return err
}

func (f *fetch) result() Result {
	if f.host == "" {
		f.received = 0 // a data URL's bytes came with the answer that listed it
	}
	tells := f.mark.ETag
	if tells == "" {
		tells = validator(f.header)
	}
	return Result{Whole: f.whole, Kind: f.media.Kind, Proven: f.proven, Cut: f.cut, Received: f.received, Validator: tells, Host: f.host}
}

// describe makes the record of the whole part.
func (f *fetch) describe() {
	warnings := append(f.encodingWarnings(), f.media.Warnings(media.Announced{
		Kind: f.req.Key.Kind, Width: f.req.Width, Height: f.req.Height, ContentType: f.header.Get("Content-Type"),
	})...)
	if f.disputed != nil {
		warnings = append(warnings, "fetched twice with the same bytes, which are not what the server announced: "+f.disputed.Error())
	}
	sha256 := f.sums.sha256()
	if f.cut && f.req.Cut == sha256 {
		f.cut, warnings = false, append(warnings, WarningTruncated)
	}
	f.whole = run.Whole{
		Key: f.req.Key, Size: f.have, SHA256: sha256,
		Ext:         f.media.Ext,
		ContentType: f.media.MIME,
		Warnings:    warnings,
		At:          f.c.clk.Now(),
	}
}

// judge says from the part's head what it is.
func (f *fetch) judge() error {
	n := min(f.have, media.HeadSize)
	head := f.mem.head[:n]
	if got, err := f.part.ReadAt(head, 0); int64(got) < n {
		return partError(fmt.Errorf("the part's head cannot be read back: %w", err))
	}
	f.media = media.Identify(head, f.part, f.have)
	f.judged = true
	if f.media.Encoded {
		return f.stillPacked()
	}
	return nil
}

// notMedia is the failure of a body that is no asset. A success of another kind than 200
// may stand for "not yet" (202) and says nothing final.
func (f *fetch) notMedia() error {
	class := NotMedia
	switch f.status {
	case http.StatusOK, http.StatusNonAuthoritativeInfo, http.StatusNoContent, http.StatusPartialContent:
	default:
		class = Server
	}
	return f.answered(class, errors.New(f.media.Refused))
}

// answered is a failure found in a body that was read.
func (f *fetch) answered(class Class, err error) *Failure {
	return &Failure{
		Class: class, Status: f.status, Host: f.host, Date: serverDate(f.header), Ranged: f.ranged, Resumed: f.resumed,
		Err: fmt.Errorf("%s: %w", signedurl.Source(f.req.URL), err),
	}
}
