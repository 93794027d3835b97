package config

import (
	"errors"
	"strings"
	"testing"
)

func TestDirectoriesThatBreakEachOtherAreRefused(t *testing.T) {
	for _, c := range []struct{ set, want string }{
		{"drop.dir=/data/state", "drop.dir = /data/state is the same as state.dir; write another directory: the queue's own files would be taken for drop files"},
		{"state.dir=/data/drop/accepted", "state.dir = /data/drop/accepted is the directory accepted of drop.dir; write another directory: the queue's own files would be taken for drop files"},
		{"state.dir=/data/drop/rejected/", "state.dir = /data/drop/rejected is the directory rejected of drop.dir; write another directory: the queue's own files would be taken for drop files"},
		{"storage.dir=/data/drop", "storage.dir = /data/drop is the same as drop.dir; write another directory: drop files and the directories of runs would be in each other's way"},
		{"storage.dir=/data/drop/accepted", "storage.dir = /data/drop/accepted is the directory accepted of drop.dir; write another directory: drop files and the directories of runs would be in each other's way"},
		{"storage.dir=/data/drop/rejected", "storage.dir = /data/drop/rejected is the directory rejected of drop.dir; write another directory: drop files and the directories of runs would be in each other's way"},
		{"drop.dir=/data/state/answers", "drop.dir = /data/state/answers is the directory answers of state.dir; write another directory: only the queue's answers live there, and what assetd does not know there is removed at each start"},
		{"storage.dir=/data/state/answers/x", "storage.dir = /data/state/answers/x lies in the directory answers of state.dir; write another directory: only the queue's answers live there, and what assetd does not know there is removed at each start"},
		{"drop.dir=/data/assets/.assetd/parts", "drop.dir = /data/assets/.assetd/parts lies in the directory .assetd of storage.dir; write another directory: what assetd does not know there is removed at each start"},
		{"state.dir=/data/assets/.assetd", "state.dir = /data/assets/.assetd is the directory .assetd of storage.dir; write another directory: what assetd does not know there is removed at each start"},
	} {
		_, _, err := Load(Options{File: "/dev/null", Set: []string{"data_dir=/data", c.set}})
		if err == nil || err.Error() != "--set: "+c.want {
			t.Errorf("%s: %v\nwant --set: %s", c.set, err, c.want)
		}
	}
}

func TestDirectoriesThatLieWithinEachOtherAndBreakNothingAreTaken(t *testing.T) {
	for _, set := range []string{
		"drop.dir=/data/assets/drop", "storage.dir=/data/drop/assets", "storage.dir=/data/drop/accepted/x", "storage.dir=/data/state",
		"state.dir=/data/drop/state", "state.dir=/data/drop/accepted/x", "drop.dir=/data/state/drop", "storage.dir=/data", "state.dir=/data/assets/.assetd2",
	} {
		_, warnings, err := Load(Options{File: "/dev/null", Set: []string{"data_dir=/data", set}})
		if err != nil || len(warnings) == 0 {
			t.Errorf("%s: %v, warnings %v", set, err, warnings)
		}
	}
}

func TestAStateDirectoryTooLongForItsSocketIsRefused(t *testing.T) {
	const most = 107 - len("/assetd.sock") // Linux: sun_path has 108 bytes, one of them a NUL
	longest := "/" + strings.Repeat("x", most-1)
	if _, _, err := Load(Options{File: "/dev/null", Set: []string{"state.dir=" + longest}}); err != nil {
		t.Errorf("%d bytes: %v", len(longest), err)
	}
	for name, c := range map[string]struct {
		o    Options
		want string
	}{
		"state.dir": {
			Options{File: "/dev/null", Set: []string{"state.dir=" + longest + "x"}},
			"--set: state.dir = " + longest + "x is too long: the path of its socket, assetd.sock, has 108 bytes and a unix socket's at most 107; set state.dir to a path of at most 95 bytes",
		},
		"from data_dir": {
			Options{File: "/dev/null", Environ: []string{"ASSETD_DATA_DIR=" + longest}},
			"environment ASSETD_DATA_DIR: state.dir = " + longest + "/state is too long: the path of its socket, assetd.sock, has 113 bytes and a unix socket's at most 107; set state.dir to a path of at most 95 bytes",
		},
		"from HOME": {
			Options{File: "/dev/null", Environ: []string{"HOME=" + longest}, UID: 5},
			"state.dir = " + longest + "/.local/state/assetd/state is too long: the path of its socket, assetd.sock, has 133 bytes and a unix socket's at most 107; set state.dir to a path of at most 95 bytes",
		},
	} {
		_, _, err := Load(c.o)
		if !errors.As(err, new(*Error)) || err.Error() != c.want {
			t.Errorf("%s: %v\nwant %s", name, err, c.want)
		}
	}
}
