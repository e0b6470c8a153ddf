"""Common English words of three to seven letters, in which every letter of the alphabet occurs often."""

WORDS = """
able about above acid across action adult after again agree ahead album alive alone along amaze angle animal apple april
arrow aside author autumn awake axis baby back badge baker balcony banjo basic beach became before begin below bench
berry beyond bible bicycle bird black blaze board bonus bottle box brave bread bridge brown bubble build busy buzz
cabin cake camera candle carpet castle cause center chair cheque chief choice church circle civic clever clock cloud
coffee color combine comic copper corner cosmic couple crazy cream cross crowd cubic cycle daily damage dance danger
dawn debate december deep delay desk detail device dialog dinner direct divide dozen dragon dream drive during eager
early earth easy edge eight either eleven empty energy engine enjoy enough equal escape even event every exact exist
expert extra eye fabric factory fairy family famous farmer fault favor fence fever fifty figure film final finger fish
five fixed flame flower focus follow forest forty fox freeze fresh friday frozen fuel future gadget galaxy garden
gather gentle giant glass global glove golden grape gravity green grow guess guide guitar habit half hammer happy
harbor hazard healthy heavy height helmet hidden hobby honest horizon hotel house hungry ice idea image improve inch
index infant injury inside invite island item ivory jacket january jazz jelly jewel job join joke journey judge juice
july jump june jungle junior jury just keep kernel kettle key kick kidney kind king kitchen kite knee knife know label
ladder lake language large laugh law lazy leader league leave legal lemon letter level library light limit liquid
listen little local lucky lunch luxury machine magic major maker map market maximum maybe mayor meadow medium method
middle might minute mixed model modern money month moon movie music must myth name napkin narrow native nature near
neck nerve never next night nine noble noise north nothing november number object obvious ocean october office often
olive open option orange orbit order oven over owner oxygen package page palm panel paper park party patch path peace
pencil people pepper phone photo piano picture pilot pizza planet plaza please pocket poem point police pony power
prize project public pump puzzle quality quarter queen query quest quick quiet quit quiz quote rabbit race radio rain
rapid razor ready recipe record reflex region relax remove reply rescue rhythm ribbon rice river robot rocket root
rough round royal rule safety salad sample sand scale school science sea search season second secret seven shadow shape
share ship short sight silver simple six sixty size sketch skill sky sleep smile smooth snake soccer social solve south
space speak speed spirit square stage star steam stone story street strong studio subway sugar summer sunday supply
survey switch symbol table tackle talent taxi teach team ten text thank theory thing thirty three thumb ticket tiger
today token topic torch total tower traffic travel tree trial truck twelve twenty twice two type uncle under union
unique unit until update upper urban useful usual vacuum valley value vapor vast velvet very vessel video village
violin virtual vision visit vital vivid voice volume voyage wagon walk warm watch water wave wax wealth weather wedding
week weird west whale wheat wheel white wide window winter wisdom wolf wonder wood world write wrong xray yacht yard
year yellow yes yoga young youth zebra zero zigzag zinc zone zoom """.split()
