"""Tools that talk to a running service: sslyze, testssl.sh, nmap, tlslite-ng, OpenSSL and GnuTLS."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree

from audit.accepted import GNUTLS, SSLYZE, TESTSSL, TLS13
from audit.judgement import TOOLS, Judgement, program, run, version
from audit.target import Target

TCP = "`sealwire serve` on TCP, with certificates of `sealwire certs init`"
SUITES = {"TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_128_GCM_SHA256"}


def sslyze(target: Target) -> Judgement:
    """Let sslyze compare the server with Mozilla's configuration "modern"."""
    tool = program("sslyze")
    if tool is None:
        return Judgement("sslyze", TCP, missing="not installed; `make audit` installs it")
    found = Judgement(f"sslyze {version(str(TOOLS / 'pip'), 'show', 'sslyze')}", TCP)
    report = target.directory / "sslyze.json"
    files = ["--cert", target.file("certs/client.pem"), "--key", target.file("certs/client.key")]
    trust = ["--certinfo_ca_file", target.file("certs/ca.pem"), "--sni", "localhost", "--json_out", str(report)]
    done = run(tool, "--mozilla_config=modern", *files, *trust, f"localhost:{target.port}")
    compliant = "OK - Compliant" in done.stdout and done.returncode == 0
    found.verdict = 'Compliant with Mozilla\'s "modern" configuration.' if compliant else "Not compliant."
    if not compliant:
        found.bad.append(done.stdout.rpartition("COMPLIANCE")[2].strip() or done.stderr[-300:])
    if not report.exists():
        return found
    scans = json.loads(report.read_text())["server_scan_results"][0]["scan_result"]
    offered = {
        suite["cipher_suite"]["name"]
        for name, scan in scans.items()
        if name.endswith("cipher_suites")
        for suite in scan["result"]["accepted_cipher_suites"]
    }
    curves = [each["name"] for each in scans["elliptic_curves"]["result"]["supported_curves"]]
    deployments = scans["certificate_info"]["result"]["certificate_deployments"]
    trusted = any(
        each["trust_store"]["name"].startswith("Supplied") and each["was_validation_successful"]
        for each in deployments[0]["path_validation_results"]
    )
    found.table = [
        ("checked", "result"),
        ("cipher suites", ", ".join(sorted(offered))),
        ("groups", ", ".join(curves)),
        ("certificate", f"{'valid' if trusted else 'NOT valid'} for the deployment's own CA"),
        *((name, flaw(scans[key]["result"])) for name, key in FLAWS.items()),
    ]
    found.bad += [" ".join(line) for line in found.table[4:] if line[1] != "not vulnerable"]
    found.bad += [f"an unexpected suite: {each}" for each in sorted(offered - SUITES)] + (
        [] if trusted else ["no trust"]
    )
    anchors = [each for each in deployments if each["received_chain_contains_anchor_certificate"]]
    found.judge(["Received chain contains the anchor certificate"] if anchors else [], SSLYZE)
    return found


FLAWS = {
    "Heartbleed": "heartbleed",
    "CCS injection": "openssl_ccs_injection",
    "ROBOT": "robot",
    "compression": "tls_compression",
    "renegotiation by the client": "session_renegotiation",
}


def flaw(result: dict[str, object]) -> str:
    """Return what sslyze says of one vulnerability."""
    signs = ("is_vulnerable_to", "supports_compression", "vulnerable_to")
    flags = [value for name, value in result.items() if name.startswith(signs) or name == "robot_result"]
    return (
        "vulnerable"
        if any(flag not in (False, None) and "NOT_VULN" not in str(flag) for flag in flags)
        else "not vulnerable"
    )


def testssl(target: Target) -> Judgement:
    """Let testssl.sh look at protocols, ciphers, server defaults and vulnerabilities."""
    tool = program("testssl")
    if tool is None:
        return Judgement("testssl.sh", TCP, missing="not installed (`apt-get install testssl.sh`)")
    found = Judgement(f"testssl.sh {version(tool, '--version')}", TCP)
    report = target.directory / "testssl.json"
    openssl = program("openssl") or "openssl"
    options = ["--quiet", "--color", "0", "--warnings", "off", "--openssl", openssl, "--jsonfile", str(report)]
    checks = ["-p", "-s", "-f", "-P", "-S", "-U", "--add-ca", target.file("certs/ca.pem"), "--ip", "127.0.0.1"]
    done = run(tool, *options, *checks, f"localhost:{target.port}", seconds=300)
    if not report.exists():
        found.bad.append((done.stdout + done.stderr)[-300:])
        return found
    entries = json.loads(report.read_text())
    worse = [each for each in entries if each["severity"] not in {"OK", "INFO", "DEBUG"}]
    good = [each for each in entries if each["severity"] == "OK"]
    found.verdict = f"{len(good)} checks passed; {len(worse)} findings of another kind."
    flaws = [each for each in entries if each["severity"] == "OK" and "vulnerable" in each["finding"]]
    found.table = [
        ("checked", "result"),
        *((each["id"], each["finding"]) for each in entries if each["id"] in SHOWN),
        ("not vulnerable", ", ".join(sorted(each["id"] for each in flaws))),
    ]
    found.judge((f"{each['id']}: {each['finding']}" for each in worse), TESTSSL)
    return found


SHOWN = {"SSLv2", "SSLv3", "TLS1", "TLS1_1", "TLS1_2", "TLS1_3", "cipherlist_STRONG", "PFS_ECDHE_curves", "cert_trust",
         "cert_chain_of_trust", "cert_keySize", "sessionresumption_ticket", "sessionresumption_ID"}  # fmt: skip


def nmap(target: Target) -> Judgement:
    """Let nmap's scripts enumerate protocols and ciphers, and try known flaws."""
    tool = program("nmap")
    if tool is None:
        return Judgement("nmap", TCP, missing="not installed (`apt-get install nmap`)")
    found = Judgement(f"nmap {version(tool, '--version')}", TCP)
    scripts = ("ssl-enum-ciphers", "ssl-cert", "ssl-dh-params", "ssl-heartbleed", "ssl-poodle", "ssl-ccs-injection",
               "ssl-known-key", "sslv2", "sslv2-drown", "tls-ticketbleed", "tls-nextprotoneg")  # fmt: skip
    done = run(tool, "-Pn", "-n", "-p", str(target.port), "--script", ",".join(scripts), "-oX", "-", "127.0.0.1")
    try:
        reports = {each.attrib["id"]: each for each in ElementTree.fromstring(done.stdout).iter("script")}
    except ElementTree.ParseError:
        reports = {}
    ciphers = reports.get("ssl-enum-ciphers")
    if ciphers is None:
        found.bad.append(f"no report of the ciphers: {(done.stdout + done.stderr)[-200:]}")
        return found
    versions = [each.attrib["key"] for each in ciphers.findall("table")]
    strength = next(each.text or "" for each in ciphers.findall("elem") if each.attrib["key"] == "least strength")
    found.verdict = f"{', '.join(versions)} alone; the least strength of a suite is {strength}."
    found.table = [("script", "result")]
    found.table += [(each, "nothing found" if each not in reports else "see above") for each in scripts[1:]]
    found.table[1] = (
        "ssl-cert",
        "EC P-256, ecdsa-with-SHA256" if "ecdsa-with-SHA256" in reports["ssl-cert"].attrib["output"] else "?",
    )
    found.bad += [f"{name}: {report.attrib['output']}" for name, report in reports.items() if name not in scripts[:2]]
    if versions != ["TLSv1.3"] or strength != "A":
        found.bad.append(found.verdict)
    return found


def tls13(target: Target) -> Judgement:
    """Send the cases of tlsfuzzer's scripts for servers of TLS 1.3, made with tlslite-ng."""
    python = TOOLS / "python"
    subject = f"{TCP}; a client that breaks RFC 8446 in each of these ways"
    if not python.exists():
        return Judgement("tlslite-ng", subject, missing="not installed; `make audit` installs it")
    found = Judgement(f"tlslite-ng {version(str(TOOLS / 'pip'), 'show', 'tlslite-ng')}", subject)
    files = [target.file(f"{each}.{end}") for each in ("certs/client", "other/certs/client") for end in ("pem", "key")]
    done = run(
        str(python),
        str(Path(__file__).with_name("tls13_cases.py")),
        str(target.port),
        target.file("certs/ca.pem"),
        *files,
    )
    if done.returncode:
        found.bad.append(done.stderr[-300:])
        return found
    cases = json.loads(done.stdout)
    found.verdict = (
        f"{len(cases)} cases after tlsfuzzer's scripts, which are on no package index that this command could install "
        "them from. The answer is one that RFC 8446 allows; a case that must not end the connection does not."
    )
    found.table = [("case", "answer"), *((name, got) for name, _, got in cases)]
    wrong = [f"{name}: {got}" for name, allowed, got in cases if got != allowed and got not in allowed.split()]
    found.judge(wrong, TLS13)
    return found


def openssl(target: Target) -> Judgement:
    """s_client against TCP and DTLS, and s_server in the place of the service."""
    found = Judgement(f"OpenSSL {version('openssl', 'version')}", f"{TCP}; a server of DTLS; Sealwire's client")
    trust = ["-CAfile", target.file("certs/ca.pem"), "-verify_return_error", "-verify_hostname", "localhost"]
    shown = ["-cert", target.file("certs/client.pem"), "-key", target.file("certs/client.key")]
    tcp = ["openssl", "s_client", "-connect", f"localhost:{target.port}", "-4", *trust, "-alpn", "sealwire/1"]
    udp = [
        "openssl",
        "s_client",
        "-connect",
        f"localhost:{target.udp_port}",
        "-4",
        *trust,
        "-alpn",
        "sealwire/1",
        "-mtu",
        "1232",
    ]
    suite = r"Cipher is (TLS_AES|ECDHE-ECDSA-AES\d+-GCM|ECDHE-ECDSA-CHACHA)"
    complete = rf"(?s)(?=.*ALPN protocol: sealwire/1)(?=.*Verification: OK)(?=.*{suite})"
    compare(
        found,
        [
            ("s_client with a certificate: TLS 1.3, verified, ALPN", [*tcp, *shown], complete),
            ("s_client without a certificate is refused", tcp, "alert certificate required"),
            ("s_client -tls1_2 is refused", [*tcp, *shown, "-tls1_2"], "alert protocol version"),
            (
                "s_client with group P-256 alone is refused",
                [*tcp, *shown, "-groups", "P-256"],
                "alert handshake failure",
            ),
            ("s_client of DTLS 1.2 with a certificate: verified, ALPN", [*udp, *shown, "-dtls1_2"], complete),
            ("s_client of DTLS 1.2 without a certificate is refused", [*udp, "-dtls1_2"], "alert handshake failure"),
            (
                "s_client of DTLS 1.0 is refused",
                [*udp, *shown, "-dtls1", "-cipher", "DEFAULT@SECLEVEL=0"],
                "alert protocol version|no protocols|timed out",
            ),
            (
                "s_client of DTLS with an AES-CBC suite is refused",
                [*udp, *shown, "-dtls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA"],
                "alert handshake failure",
            ),
        ],
    )
    return found


def gnutls(target: Target) -> Judgement:
    """gnutls-cli against TCP and DTLS."""
    tool = program("gnutls-cli")
    subject = f"{TCP}; a server of DTLS"
    if tool is None:
        return Judgement("GnuTLS", subject, missing="not installed (`apt-get install gnutls-bin`)")
    found = Judgement(f"GnuTLS {version(tool, '--version')}", subject)
    trust = ["--x509cafile", target.file("certs/ca.pem"), "--alpn", "sealwire/1"]
    shown = ["--x509certfile", target.file("certs/client.pem"), "--x509keyfile", target.file("certs/client.key")]
    tcp, udp = (
        [tool, "--port", str(target.port), *trust, "localhost"],
        [tool, "--udp", "--port", str(target.udp_port), *trust, "127.0.0.1"],
    )
    old = ["--priority", "NORMAL:-VERS-TLS1.3"]
    modern = r"(?s)certificate is trusted.*TLS1\.3-X\.509.*ECDHE-X25519.*Handshake was completed"
    compare(
        found,
        [
            ("gnutls-cli with a certificate: TLS 1.3, verified", [*tcp, *shown], modern),
            ("gnutls-cli without a certificate is refused", tcp, "Certificate is required"),
            ("gnutls-cli with TLS 1.2 alone is refused", [*tcp, *shown, *old], "Error in protocol version"),
            ("gnutls-cli with DTLS 1.2 and a certificate: verified", [*udp, *shown], "Handshake was completed"),
        ],
        GNUTLS,
    )
    return found


def compare(found: Judgement, cases: list[tuple[str, list[str], str]], accepted: dict[str, str] | None = None) -> None:
    """Run each command, and look for what it must say."""
    wrong = []
    found.table = [("case", "result")]
    for name, command, expected in cases:
        # A refusal of the certificate comes after the handshake: the client must not leave before.
        done = run(*command, seconds=15, waits="without a certificate" in name)
        said = done.stdout + done.stderr
        as_expected = re.search(expected, said) is not None
        found.table.append((name, "as it should be" if as_expected else "not so"))
        if not as_expected:
            wrong.append(f"{name}: {' '.join(said.split()[-9:])}")
    found.judge(wrong, accepted or {})
    found.verdict = f"{len(cases)} cases."


def clients(target: Target) -> Judgement:
    """Let Sealwire's client connect to OpenSSL's and GnuTLS's servers."""
    found = Judgement(
        "OpenSSL's and GnuTLS's servers", "`sealwire ping`, which must tell each of them apart from a service"
    )
    ours = ["--CAfile", target.file("certs/ca.pem")]
    shown = ["-cert", target.file("certs/server.pem"), "-key", target.file("certs/server.key")]
    other = ["-cert", target.file("other/certs/server.pem"), "-key", target.file("other/certs/server.key")]
    wrong = ["-cert", target.file("certs/elsewhere.pem"), "-key", target.file("certs/elsewhere.key")]
    s_server = ["openssl", "s_server", "-accept", "127.0.0.1:0", "-Verify", "1", f"-{ours[0].strip('-')}", ours[1]]
    alpn = ["-alpn", "sealwire/1"]
    cases = [
        (
            "s_server of TLS 1.3: a verified handshake, then no WELCOME",
            [*s_server, *shown, *alpn, "-tls1_3"],
            "did not complete the handshake in time",
        ),
        ("s_server -tls1_2 is refused", [*s_server, *shown, *alpn, "-tls1_2"], "(?i)version"),
        (
            "s_server with a certificate of another CA is refused",
            [*s_server, *other, *alpn],
            "unable to get local issuer certificate",
        ),
        (
            "s_server with the certificate of another name is refused",
            [*s_server, *wrong, *alpn],
            "(?i)hostname mismatch",
        ),
        ("s_server without the ALPN of Sealwire is refused", [*s_server, *shown], "sealwire/1"),
    ]
    found.table = [("case", "result")]
    for name, command, expected in cases:
        with listening(command) as port:
            done = target.sealwire(
                "ping", f"localhost:{port}", "--config", "client.toml", "--count", "1", "--timeout", "3"
            )
        refused = done.returncode != 0 and re.search(expected, done.stderr) is not None
        found.table.append((name, done.stderr.strip().replace(f":{port}", ":PORT") if refused else "NOT so"))
        if not refused:
            found.bad.append(f"{name}: {done.stdout} {done.stderr}")
    found.verdict = f"{len(cases)} cases."
    return found


@contextmanager
def listening(command: list[str]) -> Iterator[int]:
    """Start OpenSSL's server; give its port."""
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, errors="replace"
    ) as process:
        assert process.stdout is not None
        try:
            yield int(next(line for line in process.stdout if line.startswith("ACCEPT")).rpartition(":")[2])
        finally:
            process.kill()
