package queue

import "github.com/assetd/assetd/internal/run"

// encodeNotice writes a notice, and in the place of a state who is still to be
// told of it.
func encodeNotice(to run.Hooks, n run.Notice) []byte {
	e := encoder{b: make([]byte, 2, 160)}
	e.b[0], e.b[1] = codecVersion, byte(to)
	e.text(1, string(n.Kind))
	e.time(2, n.At)
	e.text(3, string(n.Run))
	e.text(4, n.App)
	e.text(5, n.Dir)
	e.text(6, string(n.State))
	e.num(7, int64(n.Revision))
	e.num(8, int64(n.Assets))
	e.num(9, int64(n.Stored))
	e.num(10, int64(n.Lost))
	e.text(11, string(n.Asset.Kind))
	e.text(12, n.Asset.ID)
	e.text(13, string(n.Rule))
	for _, id := range n.Runs {
		e.each(14, string(id))
	}
	e.num(15, int64(n.Count))
	e.time(16, n.Dies)
	e.text(17, n.Host)
	e.num(18, n.Bytes)
	e.text(19, n.Text)
	return e.b
}

func decodeNotice(k, v []byte) (run.Notice, error) {
	seq, _, err := noticeHead(k, v)
	if err != nil {
		return run.Notice{}, err
	}
	n := run.Notice{Seq: seq}
	d := decoder{b: v[2:]}
	for d.next() {
		switch d.field {
		case 1:
			n.Kind = run.NoticeKind(d.text())
		case 2:
			n.At = d.time()
		case 3:
			n.Run = run.ID(d.text())
		case 4:
			n.App = d.text()
		case 5:
			n.Dir = d.text()
		case 6:
			n.State = run.State(d.text())
		case 7:
			n.Revision = d.num()
		case 8:
			n.Assets = d.num()
		case 9:
			n.Stored = d.num()
		case 10:
			n.Lost = d.num()
		default:
			decodeOthers(&d, &n)
		}
	}
	if d.err != nil {
		return run.Notice{}, broken("notice", k, d.err)
	}
	if n.Asset.ID != "" {
		n.Asset.Run = n.Run
	}
	return n, nil
}

// decodeOthers reads what is not about a settled run.
func decodeOthers(d *decoder, n *run.Notice) {
	switch d.field {
	case 11:
		n.Asset.Kind = run.Kind(d.text())
	case 12:
		n.Asset.ID = d.text()
	case 13:
		n.Rule = run.LossRule(d.text())
	case 14:
		n.Runs = append(n.Runs, run.ID(d.text()))
	case 15:
		n.Count = d.num()
	case 16:
		n.Dies = d.time()
	case 17:
		n.Host = d.text()
	case 18:
		n.Bytes = d.n
	case 19:
		n.Text = d.text()
	}
}
