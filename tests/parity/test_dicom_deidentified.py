"""Objects without the patient, held against the table of PS3.15 E.1 and dicom-anonymizer's own."""

import copy
import io
import shutil
import subprocess
import zipfile

import nibabel
import numpy as np
import pydicom
import pytest
from dicomanonymizer import anonymize_dataset
from dicomanonymizer.dicom_anonymization_databases import dicomfields_2026c as table
from pydicom import Dataset
from pydicom.sequence import Sequence

from service.registration.dicom_results import DEFORMABLE, FIGURES, LABELS, SPATIAL, WARPED
from service.registration.files.dicom.objects.deidentify import CLEANED, OWED, Deidentifier
from service.registration.models_folder import ModelFolder
from service.registration.options import RegisterOptions
from service.registration.pipeline import register_files
from tests.conftest import DIRECTIONS
from tests.dicoms import affine_of, write_series
from tests.parity.test_dicom_objects import blobs

NAMES = (WARPED, LABELS, SPATIAL, DEFORMABLE, FIGURES)
PLANTED = ("Canary", "CANARY", "19481231", "20310203", "1.2.826.77", "Gwendolyn", "230917")


@pytest.fixture(scope="module")
def models():
    return ModelFolder(provider="cpu")


def planted(made, _k):
    made.StudyDescription = made.SeriesDescription = "Canary for Gwendolyn"
    made.PatientComments = made.InstitutionName = "Canary clinic"
    made.PatientAge, made.PatientWeight = "077Y", 77
    made.StudyTime = "230917"
    made.private_block(0x0099, "CANARY", create=True).add_new(1, "LO", "Canary")
    request = Dataset()
    request.RequestedProcedureDescription = "Canary"
    made.RequestAttributesSequence = Sequence([request])


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    root = tmp_path_factory.mktemp("pair")
    affine = affine_of(DIRECTIONS["oblique"], (1.5, 1.2, 2.5), (3, -5, 7))
    told = {
        "patient": "CANARY-1",
        "change": planted,
        "PatientName": "Canary^Gwendolyn",
        "PatientBirthDate": "19481231",
        "StudyDate": "20310203",
        "AccessionNumber": "CANARY-2",
        "StudyInstanceUID": "1.2.826.77.1",
        "ReferringPhysicianName": "Canary^Doctor",
    }
    write_series(root / "fixed", blobs((30, 32, 20), 1), affine, series="1.2.826.77.2", **told)
    write_series(root / "moving", blobs((30, 32, 20), 1), affine, series="1.2.826.77.3", **told)
    labels = np.zeros((30, 32, 20), np.uint8)
    labels[8:20, 9:21, 5:12] = 4
    nibabel.save(nibabel.Nifti1Image(labels, affine), root / "labels.nii")
    files = {role: root / role for role in ("fixed", "moving")}
    return files | {"moving_labels": root / "labels.nii"}


@pytest.fixture(scope="module")
def made(pair, tmp_path_factory, models):
    out = tmp_path_factory.mktemp("out")
    options = RegisterOptions(refine="none", deidentify=True)
    register_files(pair, options, out, models, secret=b"deployment")
    return out


def objects_of(folder):
    found = {name: [pydicom.dcmread(folder / name)] for name in NAMES if name != WARPED}
    with zipfile.ZipFile(folder / WARPED) as archive:
        slices = [archive.read(name) for name in archive.namelist()]
    return found | {WARPED: [pydicom.dcmread(io.BytesIO(one)) for one in slices]}


def elements_of(dataset):
    for element in dataset:
        yield element
        if element.VR == "SQ":
            for item in element.value:
                yield from elements_of(item)


def raw(folder):
    for path in folder.iterdir():
        if path.name == WARPED:
            with zipfile.ZipFile(path) as archive:
                yield from ((name, archive.read(name)) for name in archive.namelist())
        else:
            yield path.name, path.read_bytes()


def test_no_planted_word_is_left_in_any_result(made):
    for name, data in raw(made):
        assert not [word for word in PLANTED if word.encode() in data], name


@pytest.mark.parametrize("name", NAMES)
def test_every_attribute_is_as_the_table_asks(made, name):
    removed = set(table.X_TAGS)
    emptied = set(table.Z_TAGS) | set(table.X_Z_TAGS)
    for one in objects_of(made)[name]:
        for element in elements_of(one):
            tag = (element.tag.group, element.tag.element)
            assert element.tag.group % 2 == 0
            if element.keyword in CLEANED:
                continue
            assert tag not in removed or element.keyword in OWED, element.keyword
            if tag in emptied and element.keyword != "PatientName":
                assert not element.value, element.keyword


def test_objects_say_that_the_patient_was_taken_out(made):
    for one in (one for group in objects_of(made).values() for one in group):
        assert one.PatientIdentityRemoved == "YES"
        assert one.LongitudinalTemporalInformationModified == "REMOVED"
        codes = [item.CodeValue for item in one.DeidentificationMethodCodeSequence]
        assert codes == ["113100", "113104", "113105"]
        assert any("PS3.15" in part for part in one.DeidentificationMethod)
        assert one.file_meta.MediaStorageSOPInstanceUID == one.SOPInstanceUID
        assert one.PatientID == one.PatientName == objects_of(made)[FIGURES][0].PatientID


def test_uids_are_replaced_everywhere_by_the_same_ones(made, pair):
    new = Deidentifier(b"deployment")
    all_objects = objects_of(made)
    sources = [pydicom.dcmread(file) for file in sorted(pair["moving"].iterdir())]
    first = all_objects[WARPED][0]
    assert first.StudyInstanceUID == new.uid("1.2.826.77.1")
    assert first.FrameOfReferenceUID == new.uid("1.2.826.77.2.9")
    told = [item.ReferencedSOPInstanceUID for item in first.SourceImageSequence]
    assert told == [new.uid(one.SOPInstanceUID) for one in sources]
    registration = all_objects[DEFORMABLE][0].DeformableRegistrationSequence[0]
    assert registration.SourceFrameOfReferenceUID == new.uid("1.2.826.77.3.9")
    evidence = all_objects[FIGURES][0].CurrentRequestedProcedureEvidenceSequence[0]
    assert evidence.StudyInstanceUID == first.StudyInstanceUID
    assert {one.SOPClassUID for one in all_objects[WARPED]} == {sources[0].SOPClassUID}


def test_geometry_and_values_are_those_of_objects_with_the_patient(made, pair, tmp_path, models):
    register_files(pair, RegisterOptions(refine="none"), tmp_path, models)
    plain, clean = objects_of(tmp_path), objects_of(made)
    for one, other in zip(plain[WARPED], clean[WARPED], strict=True):
        assert one.PixelData == other.PixelData
        assert one.ImagePositionPatient == other.ImagePositionPatient
    assert plain[WARPED][0].PatientID == "CANARY-1"
    assert plain[WARPED][0].SOPInstanceUID not in {one.SOPInstanceUID for one in clean[WARPED]}
    assert plain[FIGURES][0].ContentSequence == clean[FIGURES][0].ContentSequence


def test_without_a_secret_no_two_jobs_can_be_told_to_be_one_patient(made, pair, tmp_path, models):
    ids = set()
    for name in ("a", "b"):
        options = RegisterOptions(refine="none", deidentify=True)
        register_files(pair, options, tmp_path / name, models)
        ids.add(pydicom.dcmread(tmp_path / name / FIGURES).PatientID)
    assert len(ids | {pydicom.dcmread(made / FIGURES).PatientID}) == 3


def test_the_table_removes_nothing_that_we_leave_in_a_source_object(pair):
    """Where dicom-anonymizer removes or empties an attribute of a scanner's object, so do we."""
    source = pydicom.dcmread(next(iter(sorted(pair["fixed"].iterdir()))))
    theirs = copy.deepcopy(source)
    anonymize_dataset(theirs, delete_private_tags=True)
    ours = Deidentifier(b"key").without_patient(source)
    added = {"PatientName", "PatientID", "DeidentificationMethod"}
    for element in source:
        if element.keyword in CLEANED | added or element.VR in ("UI", "DA", "TM"):
            continue
        if not theirs.get(element.keyword) and element.keyword:
            assert not ours.get(element.keyword), element.keyword
    assert not [element for element in elements_of(ours) if element.tag.is_private]


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy is not installed")
@pytest.mark.parametrize("name", [SPATIAL, DEFORMABLE, FIGURES, LABELS, WARPED])
def test_objects_are_still_valid(made, tmp_path, name):
    path = made / name
    if name == WARPED:
        path = tmp_path / "slice.dcm"
        objects_of(made)[WARPED][0].save_as(path)
    told = subprocess.run(
        ["dciodvfy", "-new", str(path)], capture_output=True, text=True, check=False
    )
    said = (told.stdout + told.stderr).splitlines()
    assert not [line for line in said if line.startswith("Error")]
