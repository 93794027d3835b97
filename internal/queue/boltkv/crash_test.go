package boltkv_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/assetd/assetd/internal/queue"
	"github.com/assetd/assetd/internal/queue/kv"
	"github.com/assetd/assetd/internal/run"
	"github.com/assetd/assetd/internal/testenv"
)

const (
	childRole = "ASSETD_QUEUE_TEST_CHILD"
	childDir  = "ASSETD_QUEUE_TEST_DIR"
)

// child plays the part that a test started this program for, if any.
func child() bool {
	var err error
	switch os.Getenv(childRole) {
	case "write":
		err = writeForEver(os.Getenv(childDir))
	case "shrink":
		err = shrinkForEver(os.Getenv(childDir))
	case "tight":
		err = shrinkOnAFullDisk(os.Getenv(childDir))
	case "fill":
		err = fillTheDisk(os.Getenv(childDir))
	case "copy":
		err = copyForEver(os.Getenv(childDir))
	case "lowdisk":
		err = copyToALowDisk(os.Getenv(childDir))
	default:
		return false
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	return true
}

func start(t *testing.T, role, dir string, attr *syscall.SysProcAttr) (*exec.Cmd, io.Reader, error) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childRole+"="+role, childDir+"="+dir)
	cmd.SysProcAttr = attr
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	return cmd, out, cmd.Start()
}

// writeForEver brings runs from hand-in to their end, and says of each step
// that it is done, until somebody kills it.
func writeForEver(dir string) error {
	q, err := queue.Open(dir, queue.Options{})
	if err != nil {
		return err
	}
	q.SetHooks(run.AllHooks)
	ctx := context.Background()
	var mu sync.Mutex
	say := func(what string, id run.ID) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Println(what, id)
	}
	fail := make(chan error)
	for range 4 {
		go func() {
			for {
				id := run.ID(fmt.Sprintf("run-%016x", rand.Uint64()))
				if err := live(ctx, q, id, say); err != nil {
					fail <- err
				}
			}
		}()
	}
	return <-fail
}

func live(ctx context.Context, q *queue.Queue, id run.ID, say func(string, run.ID)) error {
	if _, err := q.Add(ctx, []run.HandIn{{ID: id}}); err != nil {
		return err
	}
	say("added", id)
	answer := answerOf(id, 2)
	if err := q.SaveAnswer(id, *answer); err != nil {
		return err
	}
	c, err := q.Answered(ctx, id, run.Verdict{Answer: answer, Terminal: true, At: time.Now()})
	if err != nil {
		return err
	}
	var keys []run.Key
	for _, a := range c.Assets {
		keys = append(keys, a.Key)
		if _, err := q.Verified(ctx, []run.Named{named(a.Key)}); err != nil {
			return err
		}
	}
	if _, err := q.Stored(ctx, keys); err != nil {
		return err
	}
	say("stored", id)
	if err := q.Settle(ctx, []run.Settlement{{Run: id, Outcome: run.OutcomeStored, Revision: 1, At: time.Now()}}); err != nil {
		return err
	}
	say("settled", id)
	return nil
}

func TestWhatWasReportedAsDoneOutlivesSIGKILL(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	said := map[string][]run.ID{}
	for round := range 5 {
		cmd, out, err := start(t, "write", dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 20 + rand.IntN(200); n > 0 && lines.Scan(); n-- {
			if err := note(said, lines.Text()); err != nil {
				t.Fatal(err)
			}
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for lines.Scan() { // what it said before it was killed; the last line may be half
			_ = note(said, lines.Text())
		}
		if err := cmd.Wait(); err == nil {
			t.Fatal("it was not killed")
		}
		q := opened(t, dir, queue.Options{LockWait: time.Minute})
		if len(said["settled"]) == 0 {
			t.Errorf("round %d: nothing got that far", round)
		}
		for what, ids := range said {
			for _, id := range ids {
				r, err := q.Get(t.Context(), id)
				if err != nil || what == "stored" && r.Stored != 2 || what == "settled" && r.State != run.StoredRun {
					t.Errorf("round %d: %s %q: %+v, %v", round, what, id, r, err)
				}
			}
		}
		if err := errors.Join(q.Audit(context.Background()), untold(q)); err != nil {
			t.Errorf("round %d: %v", round, err)
		}
		if err := q.Close(); err != nil {
			t.Error(err)
		}
	}
}

// untold is what is wrong with an outbox that nobody has read: each settled run
// has its notice, once, and no other run has one.
func untold(q *queue.Queue) error {
	ctx := context.Background()
	runs, err := q.List(ctx, run.StoredRun, "", 1<<20)
	notices, err2 := q.Outbox(ctx, run.URLHook, 0, 1<<20)
	if err := errors.Join(err, err2); err != nil {
		return err
	}
	told := map[run.ID]int{}
	for _, n := range notices {
		told[n.Run]++
	}
	for _, r := range runs {
		if told[r.ID] != 1 {
			return fmt.Errorf("run %q is settled, and told of %d times", r.ID, told[r.ID])
		}
		delete(told, r.ID)
	}
	if len(told) > 0 {
		return fmt.Errorf("told of %d runs that are not settled", len(told))
	}
	return nil
}

func note(said map[string][]run.ID, line string) error {
	what, id, ok := strings.Cut(line, " ")
	if !ok || len(id) != len("run-")+16 {
		return fmt.Errorf("the child said %q", line)
	}
	said[what] = append(said[what], run.ID(id))
	return nil
}

func TestAFullDiskStopsTheIntakeAndNothingElse(t *testing.T) {
	onASmallDisk(t, "fill", "full after ")
}

// onASmallDisk starts a child that mounts one of its own, and wants to hear that
// from it.
func onASmallDisk(t *testing.T, role, want string) {
	t.Helper()
	self := &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	cmd, out, err := start(t, role, t.TempDir(), self)
	if err != nil {
		testenv.Missing(t, "a mount namespace of its own (unshare -Urm): "+err.Error())
	}
	said, _ := io.ReadAll(out)
	if err := cmd.Wait(); err != nil || !strings.HasPrefix(string(said), want) {
		t.Errorf("%s: %v", said, err)
	}
}

func mountSmall(mount string) error {
	if err := syscall.Mount("tmpfs", mount, "tmpfs", 0, "size=1m"); err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	return nil
}

func fillTheDisk(mount string) error {
	if err := mountSmall(mount); err != nil {
		return err
	}
	ballast := filepath.Join(mount, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 256<<10), 0o600); err != nil {
		return err
	}
	told := 0
	dir := filepath.Join(mount, "state")
	q, err := queue.Open(dir, queue.Options{Tell: func(e run.Event) {
		if e.Kind == run.QueueTrouble {
			told++
		}
	}})
	if err != nil {
		return err
	}
	ctx := context.Background()
	label := labels(2000)
	taken := 0
	for ; err == nil; taken++ {
		_, err = q.Add(ctx, []run.HandIn{{ID: run.ID(fmt.Sprintf("run-%d", taken)), Labels: label}})
	}
	taken--
	if !errors.Is(err, kv.ErrFull) || !errors.Is(err, syscall.ENOSPC) || q.Err() != nil {
		return fmt.Errorf("full: %w, dead: %w", err, q.Err())
	}
	if err := q.SaveAnswer("run-0", *answerOf("run-0", 300)); !errors.Is(err, kv.ErrFull) {
		return fmt.Errorf("answer: %w", err)
	}
	if c, err := q.Counts(ctx); err != nil || c.Runs[run.Waiting] != taken || taken < 10 {
		return fmt.Errorf("%d taken, %v, %w", taken, c, err)
	}
	if err := os.Remove(ballast); err != nil {
		return err
	}
	if _, err := q.Add(ctx, []run.HandIn{{ID: "room-again", Labels: label}}); err != nil {
		return fmt.Errorf("with room again: %w", err)
	}
	if told != 1 {
		return fmt.Errorf("told %d times", told)
	}
	if err := errors.Join(q.Audit(context.Background()), q.Close()); err != nil {
		return err
	}
	if q, err = queue.Open(dir, queue.Options{}); err != nil {
		return err
	}
	if c, err := q.Counts(ctx); err != nil || c.Runs[run.Waiting] != taken+1 {
		return fmt.Errorf("found again: %v, %w", c, err)
	}
	fmt.Println("full after", taken)
	return q.Close()
}
