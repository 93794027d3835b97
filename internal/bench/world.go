package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/signedurl"
	"github.com/assetd/assetd/internal/simulator"
)

// world is what the simulator serves in a measurement.
type world struct {
	options []simulator.Option
	fill    func(*simulator.Sim) ([]run.ID, error)
}

// serveArgument makes this program the simulator's process, with the name of the
// measurement after it.
const serveArgument = "simulator"

// The simulator's process answers each line on its input with a line of JSON, and
// ends with its input.
const (
	askAssets = "assets"
	askPolls  = "polls"
)

// opening is what the process says first.
type opening struct {
	API  string
	Key  string
	Runs []run.ID
}

// asset is one of the world's, with its URL as the API lists it.
type asset struct {
	URL    string
	Expiry time.Time
	Size   int64  // bytes
	SHA256 string // hex
}

// polls is what the API was asked so far.
type polls struct {
	Count int
	First time.Time // zero: not yet
}

// serve is the simulator's process.
func serve(name string, in io.Reader, out io.Writer) error {
	m, err := find(name)
	if err != nil {
		return err
	}
	if m.world == nil {
		return fmt.Errorf("measurement %s has no world", name)
	}
	sim, err := simulator.Start(m.world.options...)
	if err != nil {
		return err
	}
	defer sim.Close()
	ids, err := m.world.fill(sim)
	if err != nil {
		return err
	}
	sim.Expected() // hashes now, not while somebody is being measured
	answer := json.NewEncoder(out)
	if err := answer.Encode(opening{sim.APIURL(), sim.Key(), ids}); err != nil {
		return err
	}
	questions := bufio.NewScanner(in)
	for questions.Scan() {
		var what any
		switch q := questions.Text(); q {
		case askAssets:
			what, err = assetsOf(sim)
		case askPolls:
			what = pollsOf(sim)
		default:
			err = fmt.Errorf("no such question: %q", q)
		}
		if err == nil {
			err = answer.Encode(what)
		}
		if err != nil {
			return err
		}
	}
	return questions.Err()
}

func assetsOf(sim *simulator.Sim) ([]asset, error) {
	var assets []asset
	for _, r := range sim.Expected() {
		for _, a := range r.Assets {
			url, _ := sim.URL(a.Key)
			expiry, ok := signedurl.Expiry(url)
			if !ok {
				return nil, fmt.Errorf("%s: its URL does not tell when it dies", a.Key)
			}
			assets = append(assets, asset{url, expiry, a.Size, a.SHA256})
		}
	}
	return assets, nil
}

func pollsOf(sim *simulator.Sim) polls {
	found := sim.Requests(func(r simulator.Request) bool { return r.Server == simulator.API })
	p := polls{Count: len(found)}
	if p.Count > 0 {
		p.First = found[0].At
	}
	return p
}

// server is the simulator in a process of its own.
type server struct {
	opening
	cmd     *exec.Cmd
	in      io.WriteCloser
	answers *json.Decoder
}

// startServer starts the simulator with the world of a measurement. Close it.
func startServer(ctx context.Context, name string) (*server, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program, to start it as the simulator: %w", err)
	}
	s := &server{cmd: exec.CommandContext(ctx, self, serveArgument, name)}
	s.cmd.Stderr = os.Stderr
	if s.in, err = s.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	s.answers = json.NewDecoder(out)
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the simulator: %w", err)
	}
	if err := s.answers.Decode(&s.opening); err != nil {
		s.close()
		return nil, fmt.Errorf("the simulator did not start: %w", err)
	}
	return s, nil
}

func (s *server) close() {
	_ = s.in.Close() // its end
	_ = s.cmd.Wait() // it is of no more use, however it ended
}

// assets are the world's, with URLs that are signed by now.
func (s *server) assets() (list []asset, err error) {
	err = s.ask(askAssets, &list)
	return list, err
}

func (s *server) polls() (p polls, err error) {
	err = s.ask(askPolls, &p)
	return p, err
}

func (s *server) ask(question string, answer any) error {
	_, err := fmt.Fprintln(s.in, question)
	if err == nil {
		err = s.answers.Decode(answer)
	}
	if err != nil {
		return fmt.Errorf("ask the simulator for its %s: %w", question, err)
	}
	return nil
}
