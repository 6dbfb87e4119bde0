package main

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// resident returns how much of the test program's code and constants is mapped,
// and how much of that is resident, KiB.
func resident(t *testing.T) (size, rss int) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Skip(err)
	}
	counts := false
	for line := range strings.Lines(string(b)) {
		fields := strings.Fields(line)
		if !strings.HasSuffix(fields[0], ":") {
			counts = len(fields) == 6 && fields[5] == exe && (fields[1] == "r-xp" || fields[1] == "r--p")
			continue
		}
		n, _ := strconv.Atoi(fields[1])
		switch {
		case counts && fields[0] == "Size:":
			size += n
		case counts && fields[0] == "Rss:":
			rss += n
		}
	}
	return size, rss
}

func TestForgetCodeGivesItBack(t *testing.T) {
	adviseCode(unix.MADV_POPULATE_READ)
	if size, rss := resident(t); size == 0 || rss < size {
		t.Skipf("%d of %d KiB are resident: this kernel does not map all that it is asked to", rss, size)
	}
	forgetCode()
	if size, rss := resident(t); rss > size/2 {
		t.Errorf("%d of %d KiB are still resident", rss, size)
	}
}
