package main

import (
	"math"
	"os"
	"path/filepath"
	"testing"
)

func TestTheLeastMemoryThatAControlGroupGrantsIsTheLimit(t *testing.T) {
	for name, c := range map[string]struct {
		groups string
		files  map[string]string
		want   int64
	}{
		"none":                   {"0::/\n", nil, math.MaxInt64},
		"version 2":              {"0::/a/b\n", map[string]string{"a/b/memory.max": "1000\n"}, 1000},
		"version 2, one above":   {"0::/a/b\n", map[string]string{"a/b/memory.max": "max\n", "a/memory.max": "700\n"}, 700},
		"version 1":              {"5:cpu:/x\n4:memory:/a\n0::/\n", map[string]string{"memory/a/memory.limit_in_bytes": "67108864\n", "memory/memory.limit_in_bytes": "9223372036854771712\n"}, 67108864},
		"version 1, no limit":    {"4:memory:/a\n", map[string]string{"memory/a/memory.limit_in_bytes": "9223372036854771712\n"}, math.MaxInt64},
		"a path of the host's":   {"0::/docker/123\n", map[string]string{"memory.max": "500\n"}, 500},
		"nothing that is a size": {"0::/\nrubbish\n", map[string]string{"memory.max": "much\n"}, math.MaxInt64},
	} {
		root := t.TempDir()
		put := func(name, text string) {
			file := filepath.Join(root, name)
			if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		put("proc/self/cgroup", c.groups)
		for file, text := range c.files {
			put(filepath.Join("sys/fs/cgroup", file), text)
		}
		if got := grantedMemory(root); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}
