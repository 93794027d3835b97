package triage

import (
	"cmp"
	"slices"
)

// report writes down what was decided.
func (p *problem) report() {
	lists := map[action]*[]int{
		finish: &p.d.Finish, besides: &p.d.Finish, hold: &p.d.Hold, stop: &p.d.Stop, next: &p.d.Next, last: &p.d.Last,
	}
	var starts []*job
	for _, j := range slices.Concat(p.order, p.expired) {
		if j.do == start {
			starts = append(starts, j)
			continue
		}
		list := lists[j.do]
		*list = append(*list, j.at)
	}
	slices.SortStableFunc(starts, func(a, b *job) int { return cmp.Compare(a.bytes, b.bytes) })
	for _, j := range starts {
		p.d.Open = append(p.d.Open, j.at)
	}
	for _, j := range p.timed {
		if j.spread > 0 && (j.do == next || j.do == last) {
			p.d.Ask = append(p.d.Ask, j.at)
		}
	}
	p.d.AtOnce = max(p.d.AtOnce, 1)
	p.d.Trickle = int64(p.trickle)
}

// risks groups those that may be late by what is too slow.
func (p *problem) risks() {
	by := map[*server][]*job{}
	for _, j := range p.timed {
		if j.late || j.slack < j.doubt {
			by[p.cause(j)] = append(by[p.cause(j)], j)
		}
	}
	for i, s := range p.servers {
		p.risk(i, s, by[s])
	}
	p.risk(-1, nil, by[nil])
}

// cause is the host that is too slow for the job, nil where it is the link.
func (p *problem) cause(j *job) *server {
	if j.byHost && j.server.speed < p.rate {
		return j.server
	}
	return nil
}

func (p *problem) risk(i int, s *server, jobs []*job) {
	if len(jobs) == 0 {
		return
	}
	r := Risk{Server: i, Rate: int64(p.rate), Left: seconds(jobs[0].left)}
	all := p.timed
	if s != nil {
		r.Rate, all = int64(s.rate), s.timed
		if !s.slow {
			r.Rate = int64(s.speed)
		}
	}
	for _, j := range jobs {
		r.Assets = append(r.Assets, j.at)
		r.Bytes += int64(j.bytes)
		if j.do == hold || j.do == start || j.do == next && j.late || j.late && j.holds && (j.do == finish || j.do == besides) {
			r.Held++
		}
	}
	need := 0.0
	for _, j := range all {
		if j.left <= jobs[len(jobs)-1].left {
			need += j.bytes
		}
	}
	r.Needed = seconds(need / float64(r.Rate))
	p.d.Risks = append(p.d.Risks, r)
}
