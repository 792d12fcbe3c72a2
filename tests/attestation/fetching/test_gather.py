"""What is gathered for a document is exactly what its appraisal asks for: the machine is accepted with it, and not without."""

import base64
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import replace
from urllib.parse import quote

import pytest
from cryptography.x509 import ocsp

from attestation.collateral import NO_COLLATERAL, IntelCollateral
from attestation.document import EvidenceDocument
from attestation.errors import MissingCollateral, UnsupportedEvidence
from attestation.fetching import NotKnown, Request, Response, gather
from attestation.parsing.nvidia import DeviceReport
from tests.attestation import machines
from tests.attestation.authority.intel import TD15
from tests.attestation.machines import Machine

PEM = "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n"


class Vendors:
    """AMD, Intel and NVIDIA in memory: they answer what this one machine needs, and count who was asked."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.asked: list[str] = []

    async def fetch(self, request: Request) -> Response:
        self.asked.append(request.url)
        for pattern, answer in self.answers().items():
            if re.search(pattern, request.url):
                return answer(request)
        return Response(404)

    def answers(self) -> dict[str, Callable[[Request], Response]]:
        authority = machines.amd_authority()
        collateral = self.machine.collateral
        issuers = "".join(pem(der) for der in (authority.ask, authority.root))
        provider_issuers = "".join(pem(der) for der in (authority.asvk, authority.root))
        return {
            r"/vcek/v1/Genoa/cert_chain$": lambda _: Response(200, (), issuers.encode()),
            r"/vlek/v1/Genoa/cert_chain$": lambda _: Response(200, (), provider_issuers.encode()),
            r"/v[cl]ek/v1/Genoa/crl$": lambda _: Response(200, (), collateral.amd_crls[0]),
            r"/vcek/v1/Genoa/[0-9a-f]{128}\?": lambda _: Response(200, (), machines.vcek()[0]),
            r"/tdx/certification/v4/tcb": lambda _: self.signed("tcb_info", "tcbInfo", "TCB-Info-Issuer-Chain"),
            r"/qe/identity": lambda _: self.signed(
                "qe_identity", "enclaveIdentity", "SGX-Enclave-Identity-Issuer-Chain"
            ),
            r"/pckcrl": lambda _: self.pck_crl(),
            r"IntelSGXRootCA": lambda _: Response(200, (), self.intel.root_ca_crl),
            r"/v1/rim/": self.rim,
            r"ocsp": self.ocsp,
        }

    @property
    def intel(self) -> IntelCollateral:
        assert self.machine.collateral.intel is not None
        return self.machine.collateral.intel

    def signed(self, part: str, member: str, header: str) -> Response:
        text, signature = getattr(self.intel, part), getattr(self.intel, f"{part}_signature").hex()
        chain = quote(getattr(self.intel, f"{part}_issuer_chain"))
        return Response(200, ((header, chain),), f'{{"{member}":{text},"signature":"{signature}"}}'.encode())

    def pck_crl(self) -> Response:
        header = ("SGX-PCK-CRL-Issuer-Chain", quote(self.intel.pck_crl_issuer_chain))
        return Response(200, (header,), self.intel.pck_crl)

    def rim(self, request: Request) -> Response:
        name = request.url.rpartition("/")[2]
        for device in self.machine.evidence.devices:
            report = DeviceReport.parse(device.report)
            for rim_name, version in (
                (report.driver_rim, report.driver_version),
                (report.vbios_rim, report.vbios_version),
            ):
                if name == rim_name:
                    data = next(
                        rim for rim in self.machine.collateral.rims if f'colloquialVersion="{version}"'.encode() in rim
                    )
                    told = {"id": name, "rim": base64.b64encode(data).decode(), "rim_format": "TCG"}
                    return Response(200, (), json.dumps(told | {"sha256": hashlib.sha256(data).hexdigest()}).encode())
        return Response(404)

    def ocsp(self, request: Request) -> Response:
        question = ocsp.load_der_ocsp_request(request.body)
        for answer in self.machine.collateral.ocsp_responses:
            if ocsp.load_der_ocsp_response(answer).serial_number == question.serial_number:
                return Response(200, (("Content-Type", "application/ocsp-response"),), answer)
        return Response(404)


def pem(der: bytes) -> str:
    return PEM.format(base64.b64encode(der).decode())


def without_certificates(document: EvidenceDocument) -> EvidenceDocument:
    return replace(document, cpu=replace(document.cpu, certificates=()))


@pytest.mark.parametrize(
    "machine",
    [
        machines.snp_machine(),
        machines.snp_machine().presenting(without_certificates),
        machines.snp_machine(
            endorsed=machines.vlek(),
            chain=(machines.amd_authority().asvk, machines.amd_authority().root),
            key_info=4,
            chip_id=bytes(64),
        ),
        machines.azure_machine(),
        machines.tdx_machine(),
        machines.tdx_machine((5, TD15)),
        machines.snp_machine(devices=[machines.gpu(0), machines.gpu(1), machines.switch()]),
        machines.simulated_machine(devices=[machines.gpu()]),
    ],
    ids=["snp", "snp-bare", "snp-vlek", "azure", "tdx", "tdx-v5", "snp-gpus", "simulated-gpu"],
)
async def test_a_machine_is_accepted_with_what_was_gathered_for_it(machine: Machine) -> None:
    gathered = await gather(Vendors(machine), machine.evidence)
    machine.appraise(collateral=gathered)
    assert any(isinstance(error, MissingCollateral) for error in machine.assess(collateral=NO_COLLATERAL).errors)


async def test_devices_of_one_kind_are_asked_about_once() -> None:
    machine = machines.snp_machine(devices=[machines.gpu(0), machines.gpu(1)])
    vendors = Vendors(machine)
    await gather(vendors, machine.evidence)
    assert sum("/v1/rim/" in url for url in vendors.asked) == 2
    # Two devices, and above them one provisioner and one family; three certificates below the root of the manifests.
    assert sum("ocsp" in url for url in vendors.asked) == 2 + 2 + 3


async def test_a_chip_whose_host_hands_out_its_certificate_is_not_named_to_amd() -> None:
    vendors = Vendors(machines.snp_machine())
    await gather(vendors, vendors.machine.evidence)
    chip = machines.snp_machine().appraise().cpu.chip.hex()
    assert vendors.asked
    assert not any(chip in url for url in vendors.asked)


async def test_the_simulation_needs_nobody() -> None:
    vendors = Vendors(machines.simulated_machine())
    assert await gather(vendors, vendors.machine.evidence) == NO_COLLATERAL
    assert vendors.asked == []


async def test_a_vendor_that_does_not_know_is_an_error_and_no_smaller_collateral() -> None:
    machine = machines.snp_machine(product="Turin").presenting(without_certificates)
    with pytest.raises(NotKnown):
        await gather(Vendors(machine), machine.evidence)


async def test_a_report_that_does_not_name_its_product_cannot_be_asked_about() -> None:
    machine = machines.snp_machine(version=2).presenting(without_certificates)
    with pytest.raises(UnsupportedEvidence):
        await gather(Vendors(machine), machine.evidence)
