"""Series in archives over gRPC: the same order as over REST."""

from service.gateway.orders import RegisterOrder, validated
from service.gateway.rpc.orders import references
from service.pb import warpline_pb2 as pb


def test_a_series_is_the_same_document_as_over_rest() -> None:
    series = pb.PacsSeries(pacs="MAIN", study="1.2", series="1.2.3")
    told = references({"fixed": pb.FileReference(pacs=series), "moving": pb.FileReference()})
    assert told == {"fixed": {"pacs": "MAIN", "study": "1.2", "series": "1.2.3"}, "moving": {}}
    order = validated(RegisterOrder, {"inputs": {"fixed": told["fixed"]}, "store_to": "MAIN"})
    assert order.inputs["fixed"].series == "1.2.3"
