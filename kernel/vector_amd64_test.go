//go:build !noasm

package kernel

import (
	"encoding/binary"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestAVXVNNIEncoding decodes the bytes of every VPDPBUSD of the AVX-VNNI tier
// by the rules of the VEX prefix (Intel SDM vol. 2A §2.3.5) and compares them
// with the operands their comment names; nothing else there may need EVEX.
func TestAVXVNNIEncoding(t *testing.T) {
	text, err := os.ReadFile("vector_amd64.s")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range avxVNNIFunctions {
		t.Run(name, func(t *testing.T) { testAVXVNNIEncoding(t, string(text), name) })
	}
}

// avxVNNIFunctions are those with VPDPBUSD in VEX.
var avxVNNIFunctions = []string{"int8StepAVXVNNI", "int8BatchAVXVNNI", "gruInt8StepAVXVNNI", "gruInt8BatchAVXVNNI"}

func testAVXVNNIEncoding(t *testing.T, text, name string) {
	_, body, ok := strings.Cut(text, "TEXT ·"+name+"(SB)")
	if !ok {
		t.Fatal("not there")
	}
	body, _, _ = strings.Cut(body, "\nTEXT ")
	if evex := regexp.MustCompile(`\bZ\d|\b[XY](1[6-9]|2\d|3[01])\b|\bK[0-7]\b|VPDPBUSD +\S|VMOVDQU(8|16|32|64)|VPMOV`).FindString(
		regexp.MustCompile(`(?m)//.*$`).ReplaceAllString(body, "")); evex != "" {
		t.Errorf("%q needs EVEX", evex)
	}
	found := 0
	for _, m := range regexp.MustCompile(`// VPDPBUSD (\d+)\(SI\), Y(\d+), Y(\d+)\n((?:\s*BYTE +\$0x[0-9a-f]{2}\n)+)`).FindAllStringSubmatch(body, -1) {
		found++
		var b []byte
		for _, f := range strings.Fields(m[4]) {
			if hex, ok := strings.CutPrefix(f, "$0x"); ok {
				v, _ := strconv.ParseUint(hex, 16, 8)
				b = append(b, byte(v))
			}
		}
		if len(b) != 9 || b[0] != 0xc4 || b[3] != 0x50 {
			t.Fatalf("% x is not C4 … 50 with a 32-bit displacement", b)
		}
		if b[1]&0x7f != 0x62 || b[2]&0x87 != 0x05 {
			t.Errorf("% x: want map 0F38, X̅ and B̅ set, W0, 256 bits, prefix 66", b)
		}
		if b[4]&0xc7 != 0x86 {
			t.Errorf("% x: want mod 10, rm SI", b)
		}
		got := [3]int{
			int(binary.LittleEndian.Uint32(b[5:])), int(^b[2] >> 3 & 15), int(b[4]>>3&7 | (^b[1]>>7&1)<<3),
		}
		var want [3]int
		for i := range want {
			want[i], _ = strconv.Atoi(m[i+1])
		}
		if got != want {
			t.Errorf("% x is VPDPBUSD %d(SI), Y%d, Y%d; want %v", b, got[0], got[1], got[2], want)
		}
	}
	if want := strings.Count(body, "0xc4\n"); found == 0 || found != want {
		t.Errorf("%d instructions, want %d", found, want)
	}
}

// TestAVXVNNIDisassembles asks GNU objdump, where there is one, what the
// AVX-VNNI tier's code in this very program is.
func TestAVXVNNIDisassembles(t *testing.T) {
	objdump, err := exec.LookPath("objdump")
	if err != nil {
		t.Skip("no objdump")
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range avxVNNIFunctions {
		testAVXVNNIDisassembles(t, objdump, exe, "github.com/sandpiper-edge/sandpiper/kernel."+name+".abi0")
	}
}

func testAVXVNNIDisassembles(t *testing.T, objdump, exe, name string) {
	out, err := exec.Command(objdump, "-d", "--disassemble="+name, exe).Output()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(out), "<"+name+">:") {
		t.Skip("the program's symbols are stripped")
	}
	want := 64 // two products of 16 k, 4 gates, 2 halves: 4·4·2 each
	if strings.Contains(name, "gru") {
		want = 48
	}
	if n := strings.Count(string(out), "{vex} vpdpbusd"); n != want {
		t.Errorf("%s: %d VEX vpdpbusd, want %d", name, n, want)
	}
	for _, line := range strings.Split(string(out), "\n") {
		if f := strings.Split(line, "\t"); len(f) > 2 && strings.HasPrefix(f[1], "62 ") || strings.Contains(line, "(bad)") {
			t.Errorf("%s: EVEX or no instruction: %s", name, line)
		}
	}
}

// TestAVXVNNITwinEqualsOracle runs all of the AVX-VNNI tier but the encoding
// of one instruction on CPUs that have it as EVEX only.
func TestAVXVNNITwinEqualsOracle(t *testing.T) {
	if !useAVX512VNNI {
		t.Skip("this CPU lacks AVX-512 VL and VNNI")
	}
	avxVNNITwin = true
	defer func() { avxVNNITwin = false }()
	for _, h := range sizesH {
		for _, g := range []Graph{
			lstmOnly(h, 9), {2, []Layer{{Kind: LSTM, Units: 20, Sequences: true}, {Kind: LSTM, Units: h}}},
			only(GRU, h, 9), {2, []Layer{{Kind: GRU, Units: 20, Sequences: true}, {Kind: GRU, Units: h}}},
		} {
			q := quantized(t, randomWeights(t, g, uint64(h)))
			sameAsOracleOn(t, []tier{avxVNNI}, q, randomWindow(uint64(h), 12, g.Features))
		}
	}
}

func TestPeakInt8CountsItsOperations(t *testing.T) {
	want := 0
	if useAVX512VNNI {
		want = 3 * 64 * 128
	}
	if got := PeakInt8(3); got != want {
		t.Errorf("PeakInt8(3) = %d, want %d", got, want)
	}
	if got := PeakInt8(0); got != 0 {
		t.Errorf("PeakInt8(0) = %d, want 0", got)
	}
}
