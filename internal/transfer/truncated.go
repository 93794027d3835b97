package transfer

import (
	"context"
	"net/http"
)

// WarningTruncated is the manifest's word for a file that is not whole by its own account
// and that its server gave out twice like that.
const WarningTruncated = "truncated"

// lookAgain asks, by one byte, whether the object is still the one that the part holds
// whole, and that looked cut off. Where it is not, or that cannot be seen, all of it is
// asked for; nil: it is.
func (f *fetch) lookAgain(ctx context.Context) (*query, error) {
	a, err := f.ask(ctx, query{one: true})
	if err != nil {
		return nil, err
	}
	f.host, f.status = a.at.host, a.resp.StatusCode
	defer a.drain()
	total := a.resp.ContentLength
	switch status := a.resp.StatusCode; {
	case status == http.StatusPartialContent:
		told, ok := parseContentRange(a.resp.Header)
		if total = told.total; !ok {
			total = -1
		}
	case carriesAll(a.resp):
	case status == http.StatusRequestedRangeNotSatisfiable:
		return &query{all: true}, nil
	default:
		return nil, a.refusal()
	}
	if total == f.mark.Total && strong(a.resp.Header) == f.mark.ETag {
		return nil, nil
	}
	return &query{all: f.req.Plain}, nil
}
