package queue

import (
	"bytes"
	"slices"

	"github.com/assetd/assetd/internal/run"
)

// deadlineKey is where a waiting asset stands in the order of deadlines. The
// order is by death, or by first sight where that is unknown ("soon"), without
// the margin: that is a setting, and the order must outlive a change of it.
func deadlineKey(a *run.Asset) []byte {
	if a == nil || a.State != run.AssetWaiting {
		return nil
	}
	return timed(max(millis(a.Deadline(0)), 1), string(assetKey(a.Key)))
}

func verifiedKey(a *run.Asset) []byte {
	if a == nil || a.State != run.AssetVerified {
		return nil
	}
	return assetKey(a.Key)
}

// claimKey is the name that the asset holds in its run, from verified on.
func claimKey(a *run.Asset) []byte {
	if a == nil || a.Stored == nil {
		return nil
	}
	return nameKey(a.Key.Run, a.Stored.File)
}

func encodeAsset(a *run.Asset) []byte {
	e := encoder{b: make([]byte, 2, 256)}
	e.b[0], e.b[1] = codecVersion, byte(slices.Index(assetStates(), a.State))
	if len(a.Key.ID) > maxLiteral {
		e.text(1, a.Key.ID)
	}
	e.num(2, int64(a.Index))
	e.text(3, a.Tool)
	if a.Width != nil {
		e.must(4, int64(*a.Width))
	}
	if a.Height != nil {
		e.must(5, int64(*a.Height))
	}
	if a.Duration != nil {
		e.float(6, *a.Duration)
	}
	e.text(7, a.CreatedAt)
	e.text(8, a.Source)
	e.text(9, a.URLHash)
	e.time(10, a.FirstSeen)
	e.time(11, a.Expiry)
	e.num(12, int64(a.Attempts))
	e.fields(13, func(e *encoder) { encodeEvidence(e, a.Evidence) })
	e.text(14, a.LastError)
	if a.Stored != nil {
		e.fields(15, func(e *encoder) { encodeStored(e, *a.Stored) })
	}
	if a.Loss != nil {
		e.fields(16, func(e *encoder) {
			e.each(1, string(a.Loss.Rule))
			e.text(2, a.Loss.Reason)
			e.time(3, a.Loss.At)
		})
	}
	e.flag(17, a.Marked)
	e.text(18, a.Quarantine)
	if a.Provisional != nil {
		e.fields(19, func(e *encoder) { encodeProvisional(e, *a.Provisional) })
	}
	e.flag(20, a.Unlisted)
	return e.b
}

func decodeAsset(key, value []byte) (run.Asset, error) {
	parts := bytes.SplitN(key, []byte("/"), 3)
	d, state, err := open(value, len(assetStates()))
	if err == nil && len(parts) != 3 {
		err = errCodec
	}
	if err != nil {
		return run.Asset{}, broken("asset", key, err)
	}
	a := run.Asset{
		Key:   run.Key{Run: run.ID(parts[0]), Kind: run.Kind(parts[1]), ID: string(parts[2])},
		State: assetStates()[state],
	}
	for d.next() {
		switch d.field {
		case 1:
			a.Key.ID = d.text()
		case 2:
			a.Index = d.num()
		case 3:
			a.Tool = d.text()
		case 4:
			a.Width = new(d.num())
		case 5:
			a.Height = new(d.num())
		case 6:
			a.Duration = new(d.float())
		case 7:
			a.CreatedAt = d.text()
		case 8:
			a.Source = d.text()
		case 9:
			a.URLHash = d.text()
		default:
			decodeProgress(d, &a)
		}
	}
	if d.err != nil {
		return run.Asset{}, broken("asset", key, d.err)
	}
	return a, nil
}

func decodeProgress(d *decoder, a *run.Asset) {
	switch d.field {
	case 10:
		a.FirstSeen = d.time()
	case 11:
		a.Expiry = d.time()
	case 12:
		a.Attempts = d.num()
	case 13:
		d.fields(func(d *decoder) { decodeEvidence(d, &a.Evidence) })
	case 14:
		a.LastError = d.text()
	case 15:
		a.Stored = new(run.Stored)
		d.fields(func(d *decoder) { decodeStored(d, a.Stored) })
	case 16:
		a.Loss = new(run.Loss)
		d.fields(func(d *decoder) {
			switch d.field {
			case 1:
				a.Loss.Rule = run.LossRule(d.text())
			case 2:
				a.Loss.Reason = d.text()
			case 3:
				a.Loss.At = d.time()
			}
		})
	case 17:
		a.Marked = d.flag()
	case 18:
		a.Quarantine = d.text()
	case 19:
		a.Provisional = new(run.Provisional)
		d.fields(func(d *decoder) { decodeProvisional(d, a.Provisional) })
	case 20:
		a.Unlisted = d.flag()
	}
}

func encodeProvisional(e *encoder, p run.Provisional) {
	e.num(1, p.Size)
	e.text(2, p.SHA256)
	e.text(3, p.Ext)
	e.text(4, p.ContentType)
	e.time(5, p.DownloadedAt)
	for _, w := range p.Warnings {
		e.each(6, w)
	}
	e.text(7, p.Object)
	e.flag(8, p.Preview)
	e.text(9, p.Validator)
}

func decodeProvisional(d *decoder, p *run.Provisional) {
	switch d.field {
	case 1:
		p.Size = d.n
	case 2:
		p.SHA256 = d.text()
	case 3:
		p.Ext = d.text()
	case 4:
		p.ContentType = d.text()
	case 5:
		p.DownloadedAt = d.time()
	case 6:
		p.Warnings = append(p.Warnings, d.text())
	case 7:
		p.Object = d.text()
	case 8:
		p.Preview = d.flag()
	case 9:
		p.Validator = d.text()
	}
}

func encodeEvidence(e *encoder, v run.Evidence) {
	e.num(1, int64(v.Finals))
	e.fields(2, func(e *encoder) { encodeWatch(e, v.FinalFor) })
	e.flag(3, v.Anew)
	e.flag(4, v.FinalAnew)
	e.num(5, int64(v.Refusals))
	e.flag(6, v.NoLaterURL)
	e.text(7, v.UnprovenSum)
}

func decodeEvidence(d *decoder, v *run.Evidence) {
	switch d.field {
	case 1:
		v.Finals = d.num()
	case 2:
		d.fields(func(d *decoder) { decodeWatch(d, &v.FinalFor) })
	case 3:
		v.Anew = d.flag()
	case 4:
		v.FinalAnew = d.flag()
	case 5:
		v.Refusals = d.num()
	case 6:
		v.NoLaterURL = d.flag()
	case 7:
		v.UnprovenSum = d.text()
	}
}

func encodeStored(e *encoder, s run.Stored) {
	e.each(1, s.File)
	e.num(2, s.Size)
	e.text(3, s.SHA256)
	e.text(4, s.ContentType)
	e.time(5, s.DownloadedAt)
	for _, w := range s.Warnings {
		e.each(6, w)
	}
}

func decodeStored(d *decoder, s *run.Stored) {
	switch d.field {
	case 1:
		s.File = d.text()
	case 2:
		s.Size = d.n
	case 3:
		s.SHA256 = d.text()
	case 4:
		s.ContentType = d.text()
	case 5:
		s.DownloadedAt = d.time()
	case 6:
		s.Warnings = append(s.Warnings, d.text())
	}
}
