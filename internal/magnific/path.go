package magnific

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/assetd/assetd/internal/run"
)

// The two paths under which the API publishes the same call, and the setting that has
// the one used that an account has: /apps was for Enterprise accounts, /flows is open
// to the paid plans.
const (
	AppsPath  = "/v1/ai/apps/runs"
	FlowsPath = "/v1/ai/flows/runs"
	AutoPath  = "auto"
)

// Remember says how to find out whether a fingerprint under the salt has answered
// before, so that of several paths the right one is asked at once.
func (c *Client) Remember(salt string, proven func(fingerprint string) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.salt, c.proven = salt, proven
}

// KeyChanges returns how often the key was changed: what was said before and after is
// about the same key where it is the same.
func (c *Client) KeyChanges() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.changes
}

// candidates are the paths to ask with the key, the first one first: one alone where
// it is known to answer.
func (c *Client) candidates(key string) []*url.URL {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.paths) == 1 || key != c.key {
		return c.paths
	}
	if c.path < 0 && !c.looked {
		c.looked = true
		for i, path := range c.paths {
			if c.proven(fingerprint(c.salt, path, key)) {
				c.path = i
				break
			}
		}
	}
	if c.path >= 0 {
		return c.paths[c.path : c.path+1]
	}
	return c.paths
}

// answers notes that the path has answered 200 with the key.
func (c *Client) answers(path *url.URL, key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if key != c.key {
		return
	}
	for i, p := range c.paths {
		if p == path {
			c.path = i
		}
	}
}

// ask asks for a run at the path that has answered with this key; where none has, at
// one after the other until one does. Each further request waits for the budget.
func (c *Client) ask(ctx context.Context, id run.ID, key string) (run.Answer, *run.Refusal) {
	var refused *run.Refusal
	for i, path := range c.candidates(key) {
		if i > 0 && c.Wait(ctx) != nil {
			return run.Answer{}, refused
		}
		answer, refusal := c.timed(ctx, path, id, key)
		if refusal == nil {
			c.answers(path, key)
			return answer, nil
		}
		if refused = both(refused, refusal, c.paths); !elsewhere(refusal) {
			break
		}
	}
	return run.Answer{}, refused
}

// elsewhere reports whether the refusal says nothing of another path: a wrong one is
// answered with 403 or 404, with a redirect or with a page.
func elsewhere(r *run.Refusal) bool { return weight(r) > 0 }

// weight orders what two paths answer: what says most of the run counts.
func weight(r *run.Refusal) int {
	switch r.Kind {
	case run.NotFound:
		return 4
	case run.Rejected:
		return 3
	case run.Forbidden:
		return 2
	case run.Unusable:
		return 1
	}
	return 0
}

// both is what the refusals of two paths say together. One that is about neither run
// nor path, such as 401 or 503, stands for both.
func both(first, second *run.Refusal, paths []*url.URL) *run.Refusal {
	if first == nil || weight(second) == 0 {
		return second
	}
	r := *second
	if weight(first) > weight(second) {
		r = *first
	}
	var where []string
	for i, refusal := range []*run.Refusal{first, second} {
		where = append(where, fmt.Sprintf("HTTP %d at /%s", refusal.Status, strings.TrimPrefix(paths[i].Path, "/")))
	}
	text := strings.Join(where, ", ")
	if r.Cause != nil && !strings.EqualFold(r.Cause.Error(), string(r.Kind)) {
		text += ": " + r.Cause.Error()
	}
	r.Cause = errors.New(text)
	return &r
}
