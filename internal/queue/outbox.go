package queue

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/assetd/assetd/internal/run"
)

// Bounds of what a notice keeps, in bytes and runs, so that one is at most 2 KiB
// whatever the API says: a name that is longer is left out, a text is cut.
const (
	mostApp    = 128
	mostDir    = 1024
	mostAsset  = 256
	mostText   = 400
	mostRuns   = 8
	outboxStep = 5000 // entries looked at in one transaction
)

// SetHooks says who is told of what happens from now on. What happens while
// nobody is set is written nowhere, and not told later either; what was written
// for a hook stays until Told.
func (q *Queue) SetHooks(hooks run.Hooks) { q.hooks.Store(uint32(hooks & run.AllHooks)) }

func (q *Queue) told() run.Hooks { return run.Hooks(q.hooks.Load()) }

// Post has others told of something that stands in no record of the queue: a
// coming loss, a trouble that concerns all runs, its end. It is durable when Post
// returns. A trouble that was told of is not told again before its end was, nor
// an end without its trouble, over restarts as well.
func (q *Queue) Post(ctx context.Context, n run.Notice) error {
	to := q.told()
	if to == 0 {
		return nil
	}
	return q.update(ctx, 1, func(t *txn) error {
		switch ended := n.Kind.Ends(); {
		case n.Kind.Begins():
			if t.stands(n.Kind) {
				return nil
			}
			if err := t.put(bMeta, standsKey(n.Kind), present()); err != nil {
				return err
			}
		case ended != "":
			if !t.stands(ended) {
				return nil
			}
			if err := t.del(bMeta, standsKey(ended)); err != nil {
				return err
			}
		}
		return t.post(to, n)
	})
}

// Standing is the troubles that others were told of (Post) and not yet of their
// end.
func (q *Queue) Standing(ctx context.Context) (kinds []run.NoticeKind, err error) {
	err = q.view(ctx, func(t *txn) error {
		c := t.tx.Cursor(bMeta)
		for k, _ := c.Seek([]byte(keyStands)); bytes.HasPrefix(k, []byte(keyStands)); k, _ = c.Next() {
			kinds = append(kinds, run.NoticeKind(k[len(keyStands):]))
		}
		return nil
	})
	return kinds, err
}

func standsKey(k run.NoticeKind) []byte { return []byte(keyStands + string(k)) }

func (t *txn) stands(k run.NoticeKind) bool { return t.get(bMeta, standsKey(k)) != nil }

// post puts a notice into the outbox for these hooks.
func (t *txn) post(to run.Hooks, n run.Notice) error {
	if to == 0 {
		return nil
	}
	t.counts.notices++
	return t.put(bOutbox, seqKey(uint64(t.counts.notices)), encodeNotice(to, bounded(n)))
}

// bounded is the notice without secrets, and small.
func bounded(n run.Notice) run.Notice {
	if len(n.App) > mostApp {
		n.App = ""
	}
	if len(n.Dir) > mostDir {
		n.Dir = ""
	}
	clean(&n.Asset.ID, "")
	if len(n.Asset.ID) > mostAsset {
		n.Asset.ID = hashPrefix + n.Asset.Hash()
	}
	clean(&n.Text, "")
	if len(n.Text) > mostText {
		n.Text = strings.ToValidUTF8(n.Text[:mostText], "") + "…"
	}
	n.Runs = n.Runs[:min(len(n.Runs), mostRuns)]
	return n
}

// settledNotice tells of a run that has just been settled.
func settledNotice(r *record) run.Notice {
	text := r.ErrorMessage
	if r.GaveUp != "" {
		text = r.GaveUp
	}
	if text == "" && r.Assets == 0 && r.Ignored > 0 {
		text = "no asset could be told from the answer; its URLs are in the manifest, as ignored"
	}
	return run.Notice{
		Kind: r.Outcome.Notice(), At: r.SettledAt, Run: r.ID, App: r.App, Dir: r.Dir, State: r.State,
		Revision: r.Revision, Assets: r.Assets, Stored: r.Stored, Lost: r.Lost, Bytes: r.Bytes, Text: text,
	}
}

// ignoredNotice reports a terminal answer with URLs that are no known asset's.
func ignoredNotice(r *record, v run.Verdict) run.Notice {
	return run.Notice{
		Kind: run.URLsIgnored, At: v.At, Run: r.ID, App: r.App, Dir: r.Dir, State: r.State, Count: r.Ignored,
		Text: fmt.Sprintf("the answer has URLs that are no known asset's, in %s: look at ignored in the manifest, and fetch by hand what is wanted", v.Answer.IgnoredNames()),
	}
}

// lostNotice tells of an asset that has just been lost.
func lostNotice(r *record, a run.Asset) run.Notice {
	return run.Notice{
		Kind: run.LostAsset, At: a.Loss.At, Run: r.ID, App: r.App, Dir: r.Dir, State: r.State,
		Asset: a.Key, Rule: a.Loss.Rule, Text: a.Loss.Reason,
	}
}

// Outbox returns up to limit notices that the hook has not taken yet, in the order
// in which things happened, from the first one beyond the place after on.
func (q *Queue) Outbox(ctx context.Context, hook run.Hooks, after uint64, limit int) (found []run.Notice, err error) {
	for more := true; more && len(found) < limit; {
		err := q.view(ctx, func(t *txn) error {
			more = false
			c := t.tx.Cursor(bOutbox)
			k, v := c.Seek(seqKey(after + 1))
			for seen := 0; k != nil && len(found) < limit; k, v = c.Next() {
				if seen++; seen > outboxStep {
					more = true
					return nil
				}
				seq, to, err := noticeHead(k, v)
				if err != nil {
					return err
				}
				after = seq
				if to&hook == 0 {
					continue
				}
				n, err := decodeNotice(k, v)
				if err != nil {
					return err
				}
				found = append(found, n)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return found, nil
}

// Told records that the hook has taken these notices, or never will; one that
// every hook is through with is gone. Those that are not there are passed over.
func (q *Queue) Told(ctx context.Context, hook run.Hooks, seqs []uint64) error {
	return q.update(ctx, len(seqs), func(t *txn) error {
		for _, seq := range seqs {
			k := seqKey(seq)
			v := t.get(bOutbox, k)
			if v == nil {
				continue
			}
			_, to, err := noticeHead(k, v)
			if err != nil {
				return err
			}
			if to &^= hook; to == 0 {
				err = t.del(bOutbox, k)
			} else {
				v = bytes.Clone(v)
				v[1] = byte(to)
				err = t.put(bOutbox, k, v)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

func seqKey(seq uint64) []byte { return binary.BigEndian.AppendUint64(nil, seq) }

// noticeHead is a notice's place and who is still to be told of it.
func noticeHead(k, v []byte) (seq uint64, to run.Hooks, err error) {
	if len(k) != 8 || len(v) < 2 || v[0] != codecVersion || v[1] == 0 || run.Hooks(v[1]) > run.AllHooks {
		return 0, 0, broken("notice", k, errCodec)
	}
	return binary.BigEndian.Uint64(k), run.Hooks(v[1]), nil
}
